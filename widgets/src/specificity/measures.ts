// The result of a feature in figures: what `sk.specificity` says, with intervals and matched features.

import { h, NO_SHORTCUTS } from "../shared/dom";
import { formatCount } from "../shared/numbers";
import { range } from "./ranking";
import { interval, type MeasureRow, type Model, short } from "./state";

export interface MeasuresView {
  element: HTMLElement;
  draw(): void;
}

export function measuresView(model: Model): MeasuresView {
  const element = h("section", { class: "sk-measures", "aria-label": "Result" });
  const draw = () => {
    const measures = model.get("measures");
    const rows = measures.rows ?? [];
    if (rows.length === 0) {
      const waits = model.get("running") ? "Intervals are on their way\u2026" : "";
      element.replaceChildren(h("p", { class: "sk-muted" }, waits));
      return;
    }
    const column = (className: string, text: string, title = "") =>
      h("th", { scope: "col", class: className, title }, text);
    const level = `${Math.round((measures.level ?? 0.95) * 100)} % interval`;
    const controls = measures.n_controls ?? 0;
    const head = h(
      "tr",
      {},
      column("", "measure"),
      column("", "value"),
      column("", level, "over documents"),
      column("sk-right", "n", "documents that the interval is over"),
      controls > 0 ? column("sk-right sk-matched", "matched", `mean and best of ${controls} matched features`) : null,
    );
    const table = h(
      "table",
      { "aria-label": "Measures of the feature" },
      h("thead", {}, head),
      h("tbody", {}, ...rows.map((row) => measureRow(row, controls > 0))),
    );
    const notes = (measures.notes ?? []).map((note) => h("li", {}, note));
    const more = h(
      "details",
      { class: "sk-help" },
      h("summary", {}, "What these are of"),
      h("p", {}, `On ${measures.protocol ?? ""}.`),
      h("p", {}, `For a chosen feature: ${measures.test ?? ""}.`),
      notes.length > 0 && h("ul", {}, ...notes),
    );
    // On narrow screens it scrolls sideways, which keys must reach.
    const scrolls = { class: "sk-frame", role: "group", tabindex: 0, "aria-label": "Measures", ...NO_SHORTCUTS };
    element.replaceChildren(h("div", scrolls, table), more);
  };
  return { element, draw };
}

function measureRow(row: MeasureRow, withControls: boolean): HTMLElement {
  const controls = `${short(row.controls_mean)} (${short(row.controls_best)})`;
  const known = row.value !== null;
  const ends = known ? interval(row.low, row.high) || row.reason || "none" : row.reason;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, row.label),
    h(
      "td",
      { class: "sk-num" },
      h("span", { class: "sk-value" }, short(row.value)),
      known ? range(row.value, row.low, row.high) : null,
    ),
    h("td", { class: "sk-num sk-ends" }, ends),
    h("td", { class: "sk-right sk-num" }, row.n_units === null ? "" : formatCount(row.n_units)),
    withControls ? h("td", { class: "sk-right sk-num sk-matched" }, row.controls_mean === null ? "" : controls) : null,
  );
}
