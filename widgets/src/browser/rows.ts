// The table's header, which sorts, and its rows, which open cards. Roles are written out: a row is laid out in two lines
// or three, which some browsers no longer read as the row of a table.

import { button, h } from "../shared/dom";
import { formatCount, formatNumber, formatPercent } from "../shared/numbers";
import { BEGIN, COLUMNS, type Columns, END } from "../shared/table";
import { nameText, textDirection, tokenLabel, tokenText } from "../shared/tokens";

type Column = (typeof COLUMNS)[number];

const TITLES: Record<Column, [string, string]> = {
  feature: ["Feature", ""],
  name: ["Name", "its label, or a name made of what it fires on"],
  density: ["Density", "fraction of tokens on which the feature fires"],
  max: ["Max", "largest activation in the index"],
  n_firings: ["Firings", "tokens on which it fires"],
  promoted: ["Promotes", "tokens whose logits it raises most"],
  example: ["Strongest context", "the firing token is marked"],
};
const NUMERIC = new Set<string>(["feature", "density", "max", "n_firings"]);

/** Whether a column is first sorted largest first. */
export const sortsDescending = (column: Column): boolean => NUMERIC.has(column) && column !== "feature";

const cellClass = (column: Column): string => `sk-${column}${NUMERIC.has(column) ? " sk-right" : ""}`;

export function headerCell(column: Column, onClick: () => void): HTMLElement {
  const [title, hint] = TITLES[column];
  const sort = button(title, "", onClick);
  if (hint) sort.title = hint;
  return h("th", { scope: "col", role: "columnheader", class: cellClass(column) }, sort);
}

/** What is said of a row beside its feature. */
export interface RowState {
  hasTabStop: boolean; // one of the rows has it
  isOpen: boolean; // its card is shown
  endsNamed: boolean; // the last row that the filter found by name
}

export function featureRow(columns: Columns, feature: number, state: RowState): HTMLElement {
  const { hasTabStop, isOpen, endsNamed } = state;
  const open = button(String(feature), "");
  open.dataset.feature = String(feature);
  open.tabIndex = hasTabStop ? 0 : -1;
  open.setAttribute("aria-expanded", String(isOpen));
  open.setAttribute("aria-label", `Feature ${feature}, ${isOpen ? "close" : "open"} its card`);
  const isSilent = (columns.n_firings[feature] ?? 0) === 0;
  const promoted = (columns.promoted[feature] ?? "").trimStart();
  const name = nameText(columns.name[feature] ?? "");
  const contents: Record<Column, Node | string> = {
    feature: open,
    name: h("bdi", { class: isSilent ? "sk-muted" : null }, name),
    density: formatPercent(columns.density[feature]),
    max: formatNumber(columns.max[feature]),
    n_firings: formatCount(columns.n_firings[feature]),
    promoted: h("code", {}, tokenText(promoted)),
    example: strongestContext(columns.example[feature] ?? "", isSilent),
  };
  const titles: Partial<Record<Column, string>> = { name, promoted: promoted && tokenLabel(promoted) };
  const cells = COLUMNS.map((column) =>
    h("td", { role: "cell", class: cellClass(column), title: titles[column] || null }, contents[column]),
  );
  const className = [isOpen && "sk-open", endsNamed && "sk-ends-named"].filter(Boolean).join(" ");
  return h("tr", { role: "row", "data-row": feature, class: className || null }, ...cells);
}

/** A context in two lines. Python cuts what stands before the firing token, so that these lines always reach it. */
function strongestContext(example: string, isSilent: boolean): HTMLElement {
  const [before = "", firing, after = ""] = example.split(new RegExp(`[${BEGIN}${END}]`));
  if (firing === undefined) return h("span", { class: "sk-muted" }, isSilent ? "silent: never fired" : "");
  const dir = textDirection([before, firing, after]);
  const title = tokenText(before + firing + after);
  const mark = h("mark", {}, tokenText(firing));
  return h("div", { class: "sk-context", dir, title }, tokenText(before), mark, tokenText(after));
}

/** The row that stands in an empty table. */
export function messageRow(message: string): HTMLElement {
  const cell = h("td", { role: "cell", colspan: COLUMNS.length, class: "sk-empty" }, message);
  return h("tr", { role: "row", class: "sk-no-rows" }, cell);
}

/** How many characters the widest numbers of each numeric column have. */
export function columnWidths(columns: Columns): Partial<Record<Column, number>> {
  const feature = String(Math.max(0, columns.length - 1)).length;
  return {
    feature,
    density: widest(columns.density, 100) + 2,
    max: widest(columns.max),
    n_firings: formatCount(columns.n_firings.reduce((a, b) => Math.max(a, b), 0)).length,
  };
}

/** Characters of the widest among numbers that `formatNumber` writes, each times `factor`. */
function widest(values: Float32Array, factor = 1): number {
  let [low, high] = [Infinity, 0];
  for (const value of values) {
    if (value > 0 && value < low) low = value;
    if (value > high && Number.isFinite(value)) high = value;
  }
  if (high === 0) return 1;
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(low * factor)));
  return Math.min(8, Math.max(2 + decimals, formatNumber(high * factor).length)); // smaller ones have exponents
}
