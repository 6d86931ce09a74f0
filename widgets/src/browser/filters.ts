// The search field and the filters above the table.

import { field, h, NO_SHORTCUTS } from "../shared/dom";
import { setTraits, traits } from "../shared/model";
import { inputNumber } from "../shared/numbers";
import { type BrowserState, FILTERS, type Model } from "./state";

const MAX_FILTER = 500; // characters, as in saekit/widgets/feature_browser.py
const SEARCH_DELAY = 150; // milliseconds without a key before the search runs

export interface Filters {
  element: HTMLElement;
  draw(): void;
}

export function filters(model: Model, signal: AbortSignal | undefined): Filters {
  const set = (values: Partial<BrowserState>) => setTraits<BrowserState>(model, { ...values, page: 0 });
  const words = { placeholder: "number, name, promoted token or context", maxlength: MAX_FILTER };
  const search = h("input", { type: "search", ...words, ...NO_SHORTCUTS });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const runSearch = () => {
    clearTimeout(timer);
    timer = undefined;
    if (search.value !== model.get("filter")) set({ filter: search.value });
  };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(runSearch, SEARCH_DELAY);
  });
  search.addEventListener("change", runSearch);
  signal?.addEventListener("abort", () => clearTimeout(timer));

  const low = densityInput("Lowest density in percent", "0", (value) => set({ min_density: value }));
  const high = densityInput("Highest density in percent", "100", (value) => set({ max_density: value }));
  const density = h("span", { class: "sk-field-name" }, "Density %");
  const hideSilent = h("input", { type: "checkbox", ...NO_SHORTCUTS });
  hideSilent.addEventListener("change", () => set({ hide_silent: hideSilent.checked }));
  const element = h(
    "div",
    { class: "sk-controls", role: "search" },
    field("Find", search, "sk-search"),
    h("span", { class: "sk-field sk-density-range" }, density, low, "to", high),
    h("label", { class: "sk-field" }, hideSilent, "Hide silent features"),
  );
  element.addEventListener("keydown", (event) => event.stopPropagation());

  const draw = () => {
    const state = traits<BrowserState, (typeof FILTERS)[number]>(model, FILTERS);
    if (timer === undefined && search.value !== state.filter) search.value = state.filter;
    low.value = percent(state.min_density);
    high.value = percent(state.max_density);
    hideSilent.checked = state.hide_silent;
  };
  return { element, draw };
}

const percent = (value: number | null): string => (value === null ? "" : inputNumber(value * 100));

/** A density in percent; an empty field is no bound, and what is not from 0 to 100 is marked and not set. */
function densityInput(label: string, placeholder: string, set: (value: number | null) => void): HTMLInputElement {
  const range = { type: "number", min: 0, max: 100, step: "any" };
  const input = h("input", { ...range, placeholder, "aria-label": label, ...NO_SHORTCUTS });
  input.addEventListener("change", () => {
    const value = input.value.trim() === "" ? null : Number(input.value) / 100;
    const valid = !input.validity.badInput && (value === null || (value >= 0 && value <= 1));
    input.setAttribute("aria-invalid", String(!valid));
    if (valid) set(value);
  });
  return input;
}
