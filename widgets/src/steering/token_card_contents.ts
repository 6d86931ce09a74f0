// What the card by a token shows: its probability, the candidates for its place and its strongest features.

import { bar } from "../shared/charts/bars";
import { button, h } from "../shared/dom";
import { tokenLabel } from "../shared/tokens";
import { colourChip } from "./colour_controls";
import { detailActivations } from "./colouring";
import { formatNll, formatProbability } from "./descriptions";
import type { ReplyTokenInfo } from "./replies";
import type { Candidate, Model } from "./state";

const N_CANDIDATES = 8;
const N_FEATURES = 4;

interface ListedCandidate {
  candidate: Candidate;
  written: boolean;
}

/** The candidates that are listed: the likeliest, and the token that was generated. */
export function listedCandidates(candidates: readonly Candidate[], token: string): ListedCandidate[] {
  const exact = candidates.findIndex((c) => c[0] === token);
  const index = exact >= 0 ? exact : candidates.findIndex((c) => c[0].trim() === token.trim());
  const limit = index >= N_CANDIDATES ? N_CANDIDATES - 1 : N_CANDIDATES;
  const all = candidates.map((candidate, i) => ({ candidate, written: i === index }));
  return all.filter(({ written }, i) => written || i < limit);
}

/** `close` is null while the card goes away with the pointer. */
export function cardContents(
  model: Model,
  token: ReplyTokenInfo,
  colourBy: (feature: number) => void,
  close: (() => void) | null,
): HTMLElement[] {
  const position = h("span", { class: "sk-muted" }, `token ${token.index}`);
  const head = h("div", { class: "sk-card-line" }, h("code", {}, tokenLabel(token.token)), position);
  if (close) {
    const closeButton = button("\u00d7", "sk-subtle sk-icon", close);
    closeButton.setAttribute("aria-label", "Close");
    head.append(closeButton);
  }
  const out: HTMLElement[] = [head];
  if (typeof token.nll === "number") {
    const title = "negative log-likelihood of this token under the unsteered model, and its probability";
    const label = h("span", { class: "sk-muted" }, "Unsteered model: ");
    out.push(h("p", { class: "sk-num", title }, label, formatNll(token.nll)));
  }
  const candidates = listedCandidates(token.detail?.choices[token.index] ?? [], token.token);
  if (candidates.length > 0) out.push(candidateTable(candidates));
  const strongest = token.detail ? detailActivations(token.detail).topFeatures(token.index, N_FEATURES) : [];
  if (strongest.length > 0) {
    const max = strongest[0]?.value ?? 1;
    const chips = strongest.map(({ feature, value }) => colourChip(model, feature, colourBy, { value, max }));
    const group = { class: "sk-chips", role: "group", "aria-label": "Strongest features at this token" };
    out.push(h("div", group, ...chips));
  }
  const hint = hintFor(token, close !== null);
  if (hint) out.push(h("p", { class: "sk-muted sk-hint" }, hint));
  return out;
}

function hintFor({ detail, writing, hasDetails }: ReplyTokenInfo, pinned: boolean): string {
  if (detail) return pinned ? "" : "Click to keep this open.";
  if (writing) return "More when the reply is finished.";
  return hasDetails ? "" : "Only the latest run has candidates and features.";
}

function candidateTable(candidates: readonly ListedCandidate[]): HTMLElement {
  const max = Math.max(...candidates.flatMap(({ candidate }) => [candidate[1], candidate[2]]), 1e-9);
  const rows = candidates.map(({ candidate: [token, before, after], written }) => {
    const spoken = written && h("span", { class: "sk-visually-hidden" }, " (generated)");
    const bars = [bar(before / max, "sk-before"), bar(after / max, "sk-after")];
    return h(
      "tr",
      { class: written ? "sk-written" : null },
      h("th", { scope: "row" }, h("code", {}, tokenLabel(token)), spoken),
      h("td", {}, formatProbability(before)),
      h("td", {}, formatProbability(after)),
      h("td", { class: "sk-bars", "aria-hidden": "true" }, ...bars),
    );
  });
  const headings = ["token", "before", "after"].map((text) => h("th", { scope: "col" }, text));
  const header = h("tr", {}, ...headings, h("td", { "aria-hidden": "true" }));
  return h(
    "table",
    {
      "aria-label": "Candidates for this place: probability before and after steering",
      title: "before: the unsteered model, after: under this condition",
    },
    h("thead", {}, header),
    h("tbody", {}, ...rows),
  );
}
