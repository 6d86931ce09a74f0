// The features that separate the concept best: what chose them, and how they do on the other documents.

import "./ranking.css";
import { button, h, rovingIndex } from "../shared/dom";
import { formatCount, formatPlural } from "../shared/numbers";
import { interval, MEASURES, type Model, type Row, short } from "./state";

export interface RankingView {
  element: HTMLElement;
  draw(): void;
  drawSelected(): void;
}

export function rankingView(model: Model, pick: (feature: number) => void): RankingView {
  const body = h("tbody");
  const head = h("tr");
  const note = h("p", { class: "sk-muted sk-note" });
  const table = h("table", { class: "sk-ranking", "aria-label": "Ranked features" }, h("thead", {}, head), body);
  const heading = h("h3", {}, "Features");
  const frame = h("div", { class: "sk-frame" }, table);
  const element = h("section", { "aria-label": "Ranking" }, heading, frame, note);

  body.addEventListener("click", (event) => {
    const row = event.target instanceof Element ? event.target.closest<HTMLElement>("tr[data-feature]") : null;
    if (!row || String(document.getSelection() ?? "") !== "") return; // selecting text in a row is not a click on it
    pick(Number(row.dataset.feature));
  });
  body.addEventListener("keydown", (event) => {
    const buttons = [...body.querySelectorAll<HTMLElement>("button")];
    const current = buttons.indexOf(event.target as HTMLElement);
    const next = rovingIndex(event, current, buttons.length, { forward: ["ArrowDown"], backward: ["ArrowUp"] });
    if (next === null || next === current) return;
    buttons[next]?.focus();
    pick(Number(buttons[next]?.dataset.feature));
  });

  const drawSelected = () => {
    const feature = model.get("feature");
    const rows = [...body.querySelectorAll<HTMLElement>("tr[data-feature]")];
    const at = Math.max(
      0,
      rows.findIndex((row) => Number(row.dataset.feature) === feature),
    );
    for (const [i, row] of rows.entries()) {
      const selected = Number(row.dataset.feature) === feature;
      row.classList.toggle("sk-open", selected);
      const open = row.querySelector("button");
      open?.setAttribute("aria-pressed", String(selected));
      if (open) open.tabIndex = i === at ? 0 : -1;
    }
  };
  const draw = () => {
    const [rows, ranking, names] = [model.get("rows"), model.get("ranking"), model.get("names")];
    element.hidden = ranking.by === undefined;
    frame.hidden = rows.length === 0;
    const by = ranking.by ?? "average_precision";
    const measure = MEASURES[by];
    const focused = body.contains(document.activeElement)
      ? (document.activeElement as HTMLElement).dataset.feature
      : null;
    const cell = (className: string, title: string, ...text: (string | Node)[]) =>
      h("th", { scope: "col", class: className, title }, ...text);
    head.replaceChildren(
      cell("sk-feature", "", "Feature"),
      cell("sk-right sk-choose", `${measure} on the documents that chose: the flattering one`, "chose"),
      cell("sk-report", `${measure} on the other documents, with its interval`, measure),
      cell("sk-right sk-wide", "fraction of firings on the concept, on the other documents", "precision"),
      cell("sk-right sk-wide", "fraction of the concept that it fires on", "recall"),
      cell("sk-right sk-wide", "firings on the other documents", "firings"),
      cell("sk-right sk-p", "corrected for the search over all features", "p"),
    );
    body.replaceChildren(
      ...rows.map((row) =>
        featureRow(row, by, names[String(row.feature)], ranking.tested ?? false, ranking.n_permutations ?? 0),
      ),
    );
    if (focused) body.querySelector<HTMLElement>(`button[data-feature="${focused}"]`)?.focus();
    const tested = ranking.tested && !ranking.p_reason;
    const search = tested
      ? `p: how often the best of ${formatPlural(ranking.n_features ?? 0, "feature")} is as good for shuffled labels, by document, in ${formatCount(ranking.n_permutations)} shufflings. `
      : ranking.p_reason
        ? `No p value: ${ranking.p_reason}. `
        : "";
    const none = rows.length === 0 ? "No feature fires often enough to be ranked. " : "";
    const few = ranking.few ? ` ${sentence(ranking.few)}` : "";
    note.textContent = `${none}${search}${sentence(ranking.documents ?? "")}${few}`;
    drawSelected();
  };
  return { element, draw, drawSelected };
}

const sentence = (text: string): string => (text ? `${text[0]?.toUpperCase()}${text.slice(1)}.` : "");

function featureRow(
  row: Row,
  by: string,
  name: string | undefined,
  tested: boolean,
  nPermutations: number,
): HTMLElement {
  const open = button("", "sk-pick");
  open.dataset.feature = String(row.feature);
  open.append(
    h("span", { class: "sk-visually-hidden" }, "Feature "),
    h("b", { class: "sk-num" }, String(row.feature)),
    " ",
    h("span", { class: "sk-name" }, name ?? ""),
  );
  const [value, low, high] = [row[by], row[`${by}_low`], row[`${by}_high`]];
  return h(
    "tr",
    { "data-feature": row.feature },
    h("th", { scope: "row", class: "sk-feature", title: name ?? null }, open),
    h("td", { class: "sk-right sk-choose" }, short(row.choose)),
    h(
      "td",
      { class: "sk-report" },
      h("span", { class: "sk-value" }, short(value)),
      range(value, low, high),
      h("span", { class: "sk-muted sk-ends" }, interval(low, high)),
    ),
    h("td", { class: "sk-right sk-wide" }, short(row.precision)),
    h("td", { class: "sk-right sk-wide" }, short(row.recall)),
    h("td", { class: "sk-right sk-wide" }, formatCount(row.n_firings)),
    h("td", { class: "sk-right sk-p" }, tested ? pValue(row.p_value, nPermutations) : "\u2026"),
  );
}

/** No more is claimed than the number of shufflings allows. */
const pValue = (p: number | null, nPermutations: number): string =>
  p === null ? "\u2013" : `${p <= 1 / (nPermutations + 1) + 1e-9 ? "\u2264 " : ""}${p.toFixed(3)}`;

/** A value between 0 and 1 with its interval, as a picture. */
export function range(
  value: number | null | undefined,
  low: number | null | undefined,
  high: number | null | undefined,
): HTMLElement {
  const element = h("span", { class: "sk-interval", "aria-hidden": "true" });
  const at = (v: number | null | undefined) => `${(100 * Math.min(1, Math.max(0, v ?? 0))).toFixed(1)}%`;
  if (low !== null && low !== undefined && high !== null && high !== undefined) {
    const line = h("i");
    line.style.insetInlineStart = at(low);
    line.style.width = `${(100 * (high - low)).toFixed(1)}%`;
    element.append(line);
  }
  if (value !== null && value !== undefined) {
    const dot = h("b");
    dot.style.insetInlineStart = at(value);
    element.append(dot);
  }
  return element;
}
