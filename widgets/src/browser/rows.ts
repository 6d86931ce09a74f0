// The table's header, which sorts, and its rows, which open cards.

import { button, h } from "../shared/dom";
import { formatCount, formatNumber, formatPercent } from "../shared/numbers";
import { BEGIN, COLUMNS, type Columns, END } from "../shared/table";
import { tokenLabel, tokenText } from "../shared/tokens";

type Column = (typeof COLUMNS)[number];

const TITLES: Record<Column, [string, string]> = {
  feature: ["Feature", ""],
  density: ["Density", "fraction of tokens on which the feature fires"],
  max: ["Max", "largest activation in the index"],
  n_firings: ["Firings", "tokens on which it fires"],
  promoted: ["Promotes", "tokens whose logits it raises most"],
  example: ["Strongest context", "the firing token is marked"],
};
const NUMERIC = new Set<string>(["feature", "density", "max", "n_firings"]);

/** Whether a column is first sorted largest first. */
export const sortsDescending = (column: Column): boolean => NUMERIC.has(column) && column !== "feature";

export function headerCell(column: Column, onClick: () => void): HTMLElement {
  const [title, hint] = TITLES[column];
  const sort = button(title, "", onClick);
  if (hint) sort.title = hint;
  return h("th", { scope: "col", class: NUMERIC.has(column) ? "sk-right" : null }, sort);
}

/** One feature. Among the rows one has the tab stop; the open one stands above its card. */
export function featureRow(columns: Columns, feature: number, hasTabStop: boolean, isOpen: boolean): HTMLElement {
  const open = button(String(feature), "");
  open.dataset.feature = String(feature);
  open.tabIndex = hasTabStop ? 0 : -1;
  open.setAttribute("aria-expanded", String(isOpen));
  open.setAttribute("aria-label", `Feature ${feature}, ${isOpen ? "close" : "open"} its card`);
  const promoted = columns.promoted[feature] ?? "";
  return h(
    "tr",
    { "data-row": feature, class: isOpen ? "sk-open" : null },
    h("td", { class: "sk-right" }, open),
    h("td", { class: "sk-right" }, formatPercent(columns.density[feature])),
    h("td", { class: "sk-right" }, formatNumber(columns.max[feature])),
    h("td", { class: "sk-right" }, formatCount(columns.n_firings[feature])),
    h("td", { title: promoted ? tokenLabel(promoted) : null }, h("code", {}, tokenText(promoted))),
    exampleCell(columns, feature),
  );
}

function exampleCell(columns: Columns, feature: number): HTMLElement {
  const cell = h("td", { class: "sk-example" });
  const [before = "", firing, after = ""] = (columns.example[feature] ?? "").split(new RegExp(`[${BEGIN}${END}]`));
  const isSilent = (columns.n_firings[feature] ?? 0) === 0;
  if (firing !== undefined) cell.append(tokenText(before), h("mark", {}, tokenText(firing)), tokenText(after));
  else if (isSilent) cell.append(h("span", { class: "sk-muted" }, "silent: never fired"));
  return cell;
}

/** The row that stands in an empty table. */
export function messageRow(message: string): HTMLElement {
  return h("tr", { class: "sk-no-rows" }, h("td", { colspan: COLUMNS.length, class: "sk-empty" }, message));
}
