// Everything the index knows of one feature, drawn from a plain object. Used by the card, the browser and offline pages.

import "./card.css";
import { button, h, QUIET, rove, uid } from "./dom";
import { histogram } from "./histogram";
import { alone, column, count, direction, edge, glyphs, number, share } from "./text";

export interface Context {
  tokens: string[];
  acts: number[];
  centre: number;
  activation: number;
  document: number;
  labels: Record<string, string>;
}

export interface Interval {
  low: number;
  high: number;
  count: number;
  share: number;
  contexts: Context[];
}

export interface CardData {
  feature: number;
  stats: {
    density: number;
    n_firings: number;
    n_documents: number;
    max: number;
    mean: number;
    std: number;
    dead: boolean;
  };
  histogram: { edges: number[]; counts: number[] };
  top: Context[];
  intervals: Interval[];
  promoted: [string, number][];
  suppressed: [string, number][];
  neighbours: [number, number][];
  names: Record<string, string>;
}

const N_SHOWN = 10;

/** The card as an element; `open` is called with a neighbour's number. */
export function drawCard(data: CardData, open: (feature: number) => void): HTMLElement {
  const { stats } = data;
  const head = h("div", { class: "sk-card-head" }, h("h3", {}, `Feature ${data.feature}`));
  if (stats.dead) head.append(h("span", { class: "sk-badge" }, "dead"));
  const card = h("article", { class: "saekit-card-body", "aria-label": `Feature ${data.feature}` }, head);
  if (stats.dead)
    card.append(
      h(
        "p",
        { class: "sk-soft" },
        "It never fired on the indexed text. Its effects come from its decoder direction alone.",
      ),
    );
  else card.append(figures(data));

  const first = stats.dead
    ? null
    : h("section", {}, h("h4", {}, "Activations"), histogram(data.histogram.edges, data.histogram.counts));
  const scale = Math.max(...[...data.promoted, ...data.suppressed].map(([, effect]) => Math.abs(effect)), 1e-9);
  card.append(
    h(
      "div",
      { class: "sk-columns" },
      first,
      effects("Promotes", "sk-promoted", data.promoted, scale),
      effects("Suppresses", "sk-suppressed", data.suppressed, scale),
    ),
  );
  if (data.neighbours.length > 0) {
    const chips = data.neighbours.map(([feature, cosine]) => {
      const name = data.names[String(feature)];
      const chip = button("", "sk-chip", () => open(feature));
      chip.dataset.feature = String(feature);
      chip.append(h("b", {}, String(feature)));
      if (name) chip.append(h("span", { class: "sk-name" }, name));
      chip.append(h("span", { class: "sk-num" }, column(cosine)));
      chip.style.setProperty("--a", Math.max(0, cosine).toFixed(3));
      chip.setAttribute(
        "aria-label",
        `Open feature ${feature}, cosine ${number(cosine)}${name ? `, promotes ${name}` : ""}`,
      );
      return chip;
    });
    const list = h("div", { class: "sk-neighbours" }, ...chips);
    card.append(h("section", {}, h("h4", {}, "Nearest features by decoder cosine"), list));
  }
  if (!stats.dead) card.append(contexts(data));
  return card;
}

function figures({ stats }: CardData): HTMLElement {
  const rows: [string, string, string][] = [
    ["density", share(stats.density), "share of tokens on which the feature fires"],
    ["maximum", number(stats.max), "largest activation in the index"],
    ["mean when active", number(stats.mean), "mean of its non-zero activations"],
    ["firings", count(stats.n_firings), "tokens on which it fires"],
    ["documents", count(stats.n_documents), "documents in which it fires"],
  ];
  return h(
    "dl",
    { class: "sk-stats" },
    ...rows.map(([name, value, title]) => h("div", { title }, h("dt", {}, name), h("dd", {}, value))),
  );
}

function effects(title: string, kind: string, tokens: [string, number][], scale: number): HTMLElement {
  const rows = tokens.map(([token, effect]) => {
    const bar = h("span", { class: "sk-bar", "aria-hidden": "true" });
    bar.style.setProperty("--a", (Math.abs(effect) / scale).toFixed(3));
    return h(
      "li",
      {},
      h("code", { title: alone(token) }, alone(token)),
      h("span", {}, bar),
      h("span", { class: "sk-num" }, column(effect)),
    );
  });
  const body =
    rows.length > 0 ? h("ul", { class: `sk-effects ${kind}` }, ...rows) : h("p", { class: "sk-empty" }, "None.");
  const hint = "effect of one unit of the feature on the token's logit, up to the final norm's scale";
  return h("section", {}, h("h4", { title: hint }, title), body);
}

/** Tabs: the strongest contexts, then a sample of each tenth of the activation range, highest first. */
function contexts(data: CardData): HTMLElement {
  const max = data.stats.max;
  const panel = h("div", { class: "sk-panel", role: "tabpanel", id: uid("panel"), tabindex: -1 });
  const pages = [
    {
      name: "Strongest",
      below: `top ${data.top.length}`,
      said: "Strongest first, at most one per window.",
      list: data.top,
    },
    ...[...data.intervals].reverse().map((interval) => {
      const [low, high] = [interval.low, interval.high].map((value) => edge(value, interval.high - interval.low));
      const range = `${low} to ${high}`;
      const times = interval.count === 1 ? "1 firing" : `${count(interval.count)} firings`;
      const sample = interval.contexts.length < interval.count ? `; ${interval.contexts.length} drawn at random` : "";
      const said =
        interval.count === 0
          ? `It never fires between ${low} and ${high}.`
          : `${range}: ${times}, ${share(interval.share)} of all${sample}.`;
      return { name: `${low}\u2013${high}`, below: count(interval.count), said, list: interval.contexts };
    }),
  ];
  const tabs = pages.map(({ name, below, said }, i) => {
    const label = i === 0 ? name : said;
    const tab = h("button", {
      type: "button",
      role: "tab",
      id: uid("tab"),
      "aria-controls": panel.id,
      "aria-label": label,
      ...QUIET,
    });
    tab.append(h("span", {}, name), h("small", {}, below));
    return tab;
  });
  const show = (at: number) => {
    const page = pages[at];
    if (!page) return;
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === at));
      tab.tabIndex = i === at ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", tabs[at]?.id ?? "");
    const rows = page.list.map((context) => contextRow(context, max));
    const list = h("ol", { class: "sk-contexts" }, ...rows.slice(0, N_SHOWN));
    panel.replaceChildren(h("p", { class: "sk-soft" }, page.said), list);
    if (rows.length <= N_SHOWN) return;
    const more = button(`Show all ${rows.length}`, "sk-button", () => {
      list.replaceChildren(...rows);
      more.remove();
      tabs[at]?.focus({ preventScroll: true });
    });
    panel.append(more);
  };
  for (const [i, tab] of tabs.entries()) tab.addEventListener("click", () => show(i));
  const bar = h("div", { class: "sk-tabs", role: "tablist", "aria-label": "Contexts by activation" }, ...tabs);
  bar.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(event.target as HTMLButtonElement);
    const to = rove(event, at, tabs.length, { on: ["ArrowRight"], back: ["ArrowLeft"] });
    if (to === null) return;
    show(to);
    tabs[to]?.focus();
  });
  show(0);
  return h("section", {}, h("h4", {}, "Contexts"), bar, panel);
}

function contextRow(context: Context, max: number): HTMLElement {
  const tokens = context.tokens.map((token, i) => {
    const act = context.acts[i] ?? 0;
    const word = i === context.centre ? h("mark", {}, glyphs(token)) : h("span", { class: "sk-token" }, glyphs(token));
    if (act > 0) {
      word.style.setProperty("--a", (max > 0 ? Math.min(1, act / max) : 0).toFixed(3));
      word.title = `${alone(token)}  ${number(act)}`;
    }
    return word;
  });
  const labels = Object.entries(context.labels).map(([name, value]) => `${name}: ${value}`);
  if (context.document >= 0) labels.push(`document ${context.document}`);
  return h(
    "li",
    {},
    h("span", { class: "sk-num", title: "activation on the framed token" }, column(context.activation)),
    h("div", { class: "sk-tokens", dir: direction(context.tokens) }, ...tokens),
    labels.length > 0 && h("div", { class: "sk-labels" }, ...labels.map((label) => h("span", {}, label))),
  );
}

/** The card of `feature` among what is at hand, or the words to show instead. */
export function cardOrWords(
  feature: number,
  sent: CardData | Record<string, never>,
  embedded: Record<string, CardData>,
  live: boolean,
  error: string,
  open: (feature: number) => void,
): HTMLElement {
  if (error) return h("p", { class: "sk-error", role: "alert" }, error);
  const data = "feature" in sent && sent.feature === feature ? (sent as CardData) : embedded[String(feature)];
  if (data) return drawCard(data, open);
  if (live) return h("p", { class: "sk-empty", role: "status" }, `Loading feature ${feature}\u2026`);
  const some = Object.keys(embedded).length;
  const help = some > 0 ? ` It holds ${some === 1 ? "one card" : `${count(some)} cards`}; the notebook has all.` : "";
  return h(
    "p",
    { class: "sk-empty", role: "status" },
    `The card of feature ${feature} is not part of this page.${help}`,
  );
}
