// The line below the table: which rows are shown, how many a page has, and buttons that turn the page.

import { button, field, h, NO_SHORTCUTS } from "../shared/dom";
import { setTraits } from "../shared/model";
import { formatCount } from "../shared/numbers";
import { clampPage, nPages } from "../shared/table";
import type { BrowserState, Model } from "./state";

const SIZES = [10, 25, 50, 100];

export interface Pager {
  element: HTMLElement;
  /** `n` features match among all `total`, the first `nNamed` by number or name. */
  draw(n: number, total: number, nNamed: number): void;
}

export function pager(model: Model): Pager {
  const set = (values: Partial<BrowserState>) => setTraits<BrowserState>(model, values);
  let [page, last] = [0, 0];
  const pageButton = (text: string, label: string, target: () => number) => {
    const element = button(text, "sk-button", () => set({ page: target() }));
    element.setAttribute("aria-label", label);
    return element;
  };
  const range = h("output", { class: "sk-range sk-num", "aria-live": "polite" });
  const size = h("select", { ...NO_SHORTCUTS });
  size.addEventListener("change", () => set({ page_size: Number(size.value), page: 0 }));
  const toFirst = pageButton("\u00ab", "First page", () => 0);
  const toPrevious = pageButton("\u2039 Previous", "Previous page", () => page - 1);
  const toNext = pageButton("Next \u203a", "Next page", () => page + 1);
  const toLast = pageButton("\u00bb", "Last page", () => last);
  const buttons = [toFirst, toPrevious, toNext, toLast];
  const element = h("nav", { class: "sk-pager", "aria-label": "Pages" }, range, field("Rows", size), ...buttons);

  const draw = (n: number, total: number, nNamed: number) => {
    const pageSize = model.get("page_size");
    [page, last] = [clampPage(model.get("page"), n, pageSize), nPages(n, pageSize) - 1];
    const sizes = [...new Set([...SIZES, pageSize])].sort((a, b) => a - b);
    size.replaceChildren(...sizes.map((value) => h("option", { value, selected: value === pageSize }, String(value))));
    const [from, to] = [page * pageSize + 1, Math.min(n, (page + 1) * pageSize)].map(formatCount);
    const shown = `Rows ${from}\u2013${to} \u00b7 page ${formatCount(page + 1)} of ${formatCount(last + 1)} \u00b7 `;
    const all = `${formatCount(total)} features`;
    const byName = nNamed > 0 && nNamed < n ? `, ${formatCount(nNamed)} by name first` : "";
    range.textContent = (n === 0 ? "" : shown) + (n === total ? all : `${formatCount(n)} of ${all} match${byName}`);
    toFirst.disabled = toPrevious.disabled = page === 0;
    toNext.disabled = toLast.disabled = page === last;
  };
  return { element, draw };
}
