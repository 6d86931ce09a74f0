// A feature's card: everything the index holds on it. Used by the card, the browser and offline pages.

import "./card.css";
import { type ContextGroup, contextTabs, type TokenContext } from "./card_contexts";
import { bar } from "./charts/bars";
import { histogram } from "./charts/histogram";
import { h } from "./dom";
import { featureChip } from "./feature_chip";
import { formatAligned, formatBinEdge, formatCount, formatNumber, formatPercent, formatPlural } from "./numbers";
import { nameText, tokenLabel } from "./tokens";

export interface ActivationBin {
  low: number;
  high: number;
  count: number;
  share: number; // fraction of the feature's firings
  contexts: TokenContext[];
}

/** What `card_data` in saekit/widgets/feature_card.py returns. */
export interface CardData {
  feature: number;
  stats: {
    density: number;
    n_firings: number;
    n_documents: number;
    max: number;
    mean: number;
    std: number;
    silent: boolean;
  };
  histogram: { edges: number[]; counts: number[] };
  top: TokenContext[];
  intervals: ActivationBin[];
  promoted: [string, number][];
  suppressed: [string, number][];
  neighbours: [number, number][];
  names: Record<string, string>; // of the feature and its neighbours, by number
  naming?: Naming; // what else is known of its name
}

/** Where a feature's name comes from: what `naming` in saekit/widgets/feature_card.py returns. */
export interface Naming {
  kind: string; // label, token, context, mixed or silent
  fraction: number | null; // of its activation that the name's words carry, on documents the name was not made from
  n_documents: number; // how many of those fire
  label: string; // in full, empty without one
  note: string;
  stars: number | null; // of 5
  author: string;
  source: string; // hand, card, or where it was imported from
}

/** The card before Python has sent one. */
export interface NoCard {
  feature?: never;
}

/** The traits of a widget that shows cards. */
export interface CardTraits {
  feature: number;
  card: CardData | NoCard;
  cards: Record<string, CardData>; // embedded in a page without a kernel, by feature number
  live: boolean;
  error: string;
}

/** The card of the feature that `state` names, or a message in its place. `open` is called with a neighbour's number. */
export function cardOrMessage(state: CardTraits, open: (feature: number) => void): HTMLElement {
  const { feature, card, cards, live, error } = state;
  if (error) return h("p", { class: "sk-error", role: "alert" }, error);
  const data = card.feature === feature ? (card as CardData) : cards[String(feature)];
  if (data) return renderCard(data, open);
  if (live) return h("p", { class: "sk-empty", role: "status" }, `Loading feature ${feature}\u2026`);
  const n = Object.keys(cards).length;
  const help = n > 0 ? ` It holds ${n === 1 ? "one card" : `${formatCount(n)} cards`}; the notebook has all.` : "";
  const message = `The card of feature ${feature} is not part of this page.${help}`;
  return h("p", { class: "sk-empty", role: "status" }, message);
}

function renderCard(data: CardData, open: (feature: number) => void): HTMLElement {
  const { silent } = data.stats;
  const number = `Feature ${data.feature}`;
  const name = nameText(data.naming?.label || (data.names[String(data.feature)] ?? ""));
  const heading = h("h3", {}, h("span", { class: name ? "sk-number" : null }, number));
  if (name && !silent) heading.append(" ", h("bdi", {}, name));
  const head = h("div", { class: "sk-card-head" }, heading);
  if (silent) head.append(h("span", { class: "sk-badge" }, "silent"));
  const card = h("article", { class: "saekit-card-body", "aria-label": number }, head);
  if (data.naming && !silent) card.append(nameSource(data.naming));
  const silentNote = "It never fired on the indexed text. The logit effects follow from its decoder direction alone.";
  card.append(silent ? h("p", { class: "sk-muted" }, silentNote) : statistics(data));

  const max = Math.max(...[...data.promoted, ...data.suppressed].map(([, effect]) => Math.abs(effect)), 1e-9);
  card.append(
    h(
      "div",
      { class: "sk-columns" },
      silent
        ? null
        : h("section", {}, h("h4", {}, "Activations"), histogram(data.histogram.edges, data.histogram.counts)),
      logitEffects("Promotes", "sk-promoted", data.promoted, max),
      logitEffects("Suppresses", "sk-suppressed", data.suppressed, max),
    ),
  );
  if (data.neighbours.length > 0) {
    const list = h(
      "div",
      { class: "sk-neighbours" },
      ...data.neighbours.map((pair) => neighbour(pair, data.names, open)),
    );
    card.append(h("section", {}, h("h4", {}, "Nearest features by decoder cosine"), list));
  }
  if (!silent) card.append(contextTabs(contextGroups(data), data.stats.max));
  return card;
}

const N_STARS = 5;

/** Who named the feature and how sure they were, or what its automatic name rests on. */
function nameSource(naming: Naming): HTMLElement {
  const { label, stars, note, author, source } = naming;
  if (label === "") return h("p", { class: "sk-naming sk-muted" }, automaticName(naming));
  const line = h("p", { class: "sk-naming sk-muted" });
  if (stars !== null) {
    const full = Math.max(0, Math.min(N_STARS, Math.round(stars)));
    const text = "\u2605".repeat(full) + "\u2606".repeat(N_STARS - full);
    line.append(h("span", { class: "sk-stars", role: "img", "aria-label": `${full} of ${N_STARS} stars` }, text));
  }
  if (note) line.append(h("span", { class: "sk-label-note" }, note));
  const by = author ? `labelled by ${author}` : "labelled by hand";
  line.append(
    h("span", {}, source === "card" ? "label of the SAE's card" : source === "hand" ? by : `label from ${source}`),
  );
  return line;
}

/** How much of the activation an automatic name stands for. */
function automaticName({ kind, fraction, n_documents }: Naming): string {
  if (kind === "silent") return "";
  if (fraction === null) return "Named by what it fires on, in too few documents to say how far the name holds.";
  const where = n_documents > 0 ? ` on ${formatPlural(n_documents, "other document")}` : "";
  const words = `${formatPercent(fraction)} of its activation${where}`;
  if (kind === "mixed") return `No few words carry half of its activation; these carry ${words}.`;
  return `Named by what it fires on: ${kind === "context" ? "these words stand by" : "this carries"} ${words}.`;
}

function statistics({ stats }: CardData): HTMLElement {
  const rows: [string, string, string][] = [
    ["density", formatPercent(stats.density), "fraction of tokens on which the feature fires"],
    ["maximum", formatNumber(stats.max), "largest activation in the index"],
    ["mean when active", formatNumber(stats.mean), "mean of its non-zero activations"],
    ["firings", formatCount(stats.n_firings), "tokens on which it fires"],
    ["documents", formatCount(stats.n_documents), "documents in which it fires"],
  ];
  const items = rows.map(([name, value, title]) => h("div", { title }, h("dt", {}, name), h("dd", {}, value)));
  return h("dl", { class: "sk-stats" }, ...items);
}

function logitEffects(title: string, className: string, tokens: [string, number][], max: number): HTMLElement {
  const rows = tokens.map(([token, effect]) =>
    h(
      "li",
      {},
      h("code", { title: tokenLabel(token) }, tokenLabel(token)),
      h("span", {}, bar(Math.abs(effect) / max, "sk-bar")),
      h("span", { class: "sk-num" }, formatAligned(effect)),
    ),
  );
  const list = h("ul", { class: `sk-effects ${className}` }, ...rows);
  const hint = "effect of one unit of the feature on the token's logit, up to the final norm's scale";
  const body = rows.length > 0 ? list : h("p", { class: "sk-empty" }, "None.");
  return h("section", {}, h("h4", { title: hint }, title), body);
}

function neighbour(
  [feature, cosine]: [number, number],
  names: Record<string, string>,
  open: (feature: number) => void,
): HTMLElement {
  const name = nameText(names[String(feature)] ?? "");
  const words = { measure: "cosine", action: "open its card" };
  const content = { name, value: formatAligned(cosine), fraction: Math.max(0, cosine), ...words };
  return featureChip(feature, content, () => open(feature));
}

/** The strongest contexts, then a sample of each activation bin, highest first. */
function contextGroups({ top, intervals }: CardData): ContextGroup[] {
  const summary = "Strongest first, at most one per window.";
  const strongest = { name: "Strongest", size: `top ${top.length}`, unit: "", summary, contexts: top };
  return [strongest, ...[...intervals].reverse().map(binGroup)];
}

function binGroup({ low, high, count, share, contexts }: ActivationBin): ContextGroup {
  const [from, to] = [formatBinEdge(low, high - low), formatBinEdge(high, high - low)];
  const sample = contexts.length < count ? `; ${contexts.length} drawn at random` : "";
  const summary =
    count === 0
      ? `It never fires between ${from} and ${to}.`
      : `${from} to ${to}: ${formatPlural(count, "firing")}, ${formatPercent(share)} of all${sample}.`;
  return {
    name: `${from}\u2013${to}`,
    size: formatCount(count),
    unit: count === 1 ? "firing" : "firings",
    summary,
    contexts,
  };
}
