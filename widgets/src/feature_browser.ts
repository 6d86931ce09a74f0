// A table over the whole index. The columns come once as bytes; only the visible page is in the document.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./feature_browser.css";
import { filters } from "./browser/filters";
import { pager } from "./browser/pager";
import { columnWidths, featureRow, headerCell, messageRow, sortsDescending } from "./browser/rows";
import { type BrowserState, QUERY } from "./browser/state";
import { cardOrMessage } from "./shared/card";
import { button, h, rovingIndex } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange, setTraits, traits } from "./shared/model";
import { refusedLine } from "./shared/refused";
import { COLUMNS, Columns, clampPage, filterWords, selectFeatures } from "./shared/table";

const CARD = ["feature", "card", "cards", "live", "error"] as const;

function render({ model, el, signal }: RenderProps<BrowserState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-browser");
  let columns = new Columns(null);
  let selected = new Int32Array(); // feature numbers that match, in order
  let nNamed = 0; // how many of them the filter found by number or name: the first ones
  const set = (values: Partial<BrowserState>) => setTraits<BrowserState>(model, values);

  const headers = COLUMNS.map((column) =>
    headerCell(column, () => {
      const descending = model.get("sort") === column ? !model.get("descending") : sortsDescending(column);
      set({ sort: column, descending, page: 0 });
    }),
  );
  const body = h("tbody", { role: "rowgroup" });
  const table = h(
    "table",
    { role: "table", "aria-label": "Features" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...headers)),
    body,
  );
  const filterBar = filters(model, signal);
  const pageBar = pager(model);
  const openCard = h("section", { class: "sk-open-card", "aria-label": "Opened feature" });
  const status = h("output", { class: "sk-visually-hidden", "aria-live": "polite" });
  const refused = refusedLine(model, signal);
  const kernel = kernelOf(model, signal);
  const frame = h("div", { class: "sk-frame" }, table);
  el.replaceChildren(filterBar.element, refused, kernel.element, frame, pageBar.element, openCard, status);

  /** Opens the card of a feature, or closes it when it is open. */
  const toggle = (feature: number) => {
    const next = feature === model.get("feature") ? -1 : feature;
    kernel.ask();
    set({ feature: next });
    status.textContent = next < 0 ? "Card closed" : `Card of feature ${next} opened below the table`;
  };
  const focusRow = (feature: number | string) =>
    body.querySelector<HTMLElement>(`[data-feature="${feature}"]`)?.focus();

  const drawRows = () => {
    const { activeElement } = document;
    const focused = activeElement instanceof HTMLElement && body.contains(activeElement) ? activeElement : null;
    const pageSize = model.get("page_size");
    const start = clampPage(model.get("page"), selected.length, pageSize) * pageSize;
    const visible = [...selected.subarray(start, start + pageSize)];
    const open = model.get("feature");
    const words = filterWords(model.get("filter"));
    const named = visible.map((feature) => columns.isNamed(feature, words));
    const rows = visible.map((feature, i) => {
      const endsNamed = named[i] === true && named[i + 1] === false;
      return featureRow(columns, feature, { hasTabStop: i === 0, isOpen: feature === open, endsNamed });
    });
    const noMatch = "No feature matches. Shorten the search or widen the density range.";
    const message = columns.length === 0 ? "The index holds no features." : noMatch;
    body.replaceChildren(...(rows.length > 0 ? rows : [messageRow(message)]));
    if (focused?.dataset.feature !== undefined) focusRow(focused.dataset.feature);
    pageBar.draw(selected.length, columns.length, nNamed);
  };
  const drawQuery = () => {
    const query = traits<BrowserState, (typeof QUERY)[number]>(model, QUERY);
    selected = selectFeatures(columns, query);
    const words = filterWords(query.filter);
    nNamed = words.length === 0 ? 0 : selected.findIndex((feature) => !columns.isNamed(feature, words));
    if (nNamed < 0) nNamed = selected.length;
    for (const [i, header] of headers.entries()) {
      const direction = query.descending ? "descending" : "ascending";
      header.setAttribute("aria-sort", COLUMNS[i] === query.sort ? direction : "none");
    }
    filterBar.draw();
    drawRows();
  };
  const drawCard = () => {
    const feature = model.get("feature");
    openCard.hidden = feature < 0;
    openCard.replaceChildren();
    if (feature < 0) return;
    const close = button("Close", "sk-button sk-close", () => {
      toggle(feature);
      focusRow(feature);
    });
    openCard.append(close, cardOrMessage(traits<BrowserState, (typeof CARD)[number]>(model, CARD), toggle));
  };

  body.addEventListener("click", (event) => {
    const row = event.target instanceof Element ? event.target.closest<HTMLElement>("tr[data-row]") : null;
    if (!row || String(document.getSelection() ?? "") !== "") return; // selecting text in a row is not a click on it
    toggle(Number(row.dataset.row));
  });
  body.addEventListener("keydown", (event) => {
    const buttons = [...body.querySelectorAll<HTMLElement>("td button")];
    const current = buttons.indexOf(event.target as HTMLElement);
    const next = rovingIndex(event, current, buttons.length, { forward: ["ArrowDown"], backward: ["ArrowUp"] });
    if (next === null) return;
    for (const [i, element] of buttons.entries()) element.tabIndex = i === next ? 0 : -1;
    buttons[next]?.focus();
  });

  onChange<BrowserState>(model, [...QUERY, "page_size"], drawQuery, signal);
  onChange<BrowserState>(model, ["page", "feature"], drawRows, signal);
  onChange<BrowserState>(model, ["feature", "card", "cards", "error"], drawCard, signal);
  const readColumns = () => {
    columns = new Columns(model.get("columns"));
    for (const [name, width] of Object.entries(columnWidths(columns)))
      table.style.setProperty(`--${name}`, `${width}ch`);
    drawQuery();
  };
  onChange<BrowserState>(model, ["columns"], readColumns, signal);
  readColumns();
  drawCard();
}

export default { render };
