// A table over the whole index. The columns come once as bytes; only the visible page is in the document.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./feature_browser.css";
import { type CardData, cardOrWords } from "./shared/card";
import { button, field, h, QUIET, rove } from "./shared/dom";
import { listen, put } from "./shared/model";
import { BEGIN, COLUMNS, Columns, clampPage, END, nPages, type Query, type RawColumns, select } from "./shared/table";
import { alone, count, glyphs, number, share } from "./shared/text";

export interface BrowserState extends Query {
  columns: RawColumns;
  page: number;
  page_size: number;
  feature: number;
  card: CardData | Record<string, never>;
  cards: Record<string, CardData>;
  live: boolean;
  error: string;
}

const TITLES: Record<(typeof COLUMNS)[number], [string, string]> = {
  feature: ["Feature", ""],
  density: ["Density", "share of tokens on which the feature fires"],
  max: ["Max", "largest activation in the index"],
  n_firings: ["Firings", "tokens on which it fires"],
  promoted: ["Promotes", "tokens whose logits it raises most"],
  example: ["Strongest context", "the firing token is marked"],
};
const NUMERIC = new Set<string>(["feature", "density", "max", "n_firings"]);
const SIZES = [10, 25, 50, 100];

function render({ model, el, signal }: RenderProps<BrowserState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-browser");
  let columns = new Columns(model.get("columns"));
  let rows = new Int32Array();
  const set = (values: Partial<BrowserState>) => put<BrowserState>(model, values);

  // Controls
  const search = h("input", { type: "search", placeholder: "number, token or words of the context", ...QUIET });
  const low = h("input", {
    type: "number",
    min: 0,
    max: 100,
    step: "any",
    placeholder: "0",
    "aria-label": "Lowest density in percent",
    ...QUIET,
  });
  const high = h("input", {
    type: "number",
    min: 0,
    max: 100,
    step: "any",
    placeholder: "100",
    "aria-label": "Highest density in percent",
    ...QUIET,
  });
  const dead = h("input", { type: "checkbox", ...QUIET });
  let typing: ReturnType<typeof setTimeout> | undefined;
  const settle = () => {
    clearTimeout(typing);
    typing = undefined;
    if (search.value !== model.get("filter")) set({ filter: search.value, page: 0 });
  };
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(settle, 150);
  });
  search.addEventListener("change", settle);
  signal?.addEventListener("abort", () => clearTimeout(typing));
  const bound = (box: HTMLInputElement, name: "min_density" | "max_density") =>
    box.addEventListener("change", () => {
      const value = box.value.trim() === "" ? null : Number(box.value) / 100;
      const good = !box.validity.badInput && (value === null || (value >= 0 && value <= 1));
      box.setAttribute("aria-invalid", String(!good));
      if (good) set({ [name]: value, page: 0 });
    });
  bound(low, "min_density");
  bound(high, "max_density");
  dead.addEventListener("change", () => set({ hide_dead: dead.checked, page: 0 }));
  const density = h(
    "span",
    { class: "sk-field sk-density" },
    h("span", { class: "sk-field-name" }, "Density %"),
    low,
    "to",
    high,
  );
  const controls = h(
    "div",
    { class: "sk-controls", role: "search" },
    field("Find", search, "sk-search"),
    density,
    h("label", { class: "sk-field" }, dead, "Hide dead features"),
  );
  controls.addEventListener("keydown", (event) => event.stopPropagation());

  // Table
  const heads = COLUMNS.map((name) => {
    const [title, hint] = TITLES[name];
    const press = button(title, "", () => {
      const again = model.get("sort") === name;
      set({
        sort: name,
        descending: again ? !model.get("descending") : NUMERIC.has(name) && name !== "feature",
        page: 0,
      });
    });
    if (hint) press.title = hint;
    return h("th", { scope: "col", class: NUMERIC.has(name) ? "sk-right" : null }, press);
  });
  const body = h("tbody");
  const table = h(
    "table",
    { "aria-label": "Features" },
    h("colgroup", {}, ...COLUMNS.map((name) => h("col", { class: `sk-w-${name}` }))),
    h("thead", {}, h("tr", {}, ...heads)),
    body,
  );
  const frame = h("div", { class: "sk-frame" }, table);

  // Pages
  const range = h("output", { class: "sk-range sk-num", "aria-live": "polite" });
  const turn = (label: string, name: string, to: () => number) => {
    const press = button(label, "sk-button", () => set({ page: to() }));
    press.setAttribute("aria-label", name);
    return press;
  };
  const shownPage = () => clampPage(model.get("page"), rows.length, model.get("page_size"));
  const lastPage = () => nPages(rows.length, model.get("page_size")) - 1;
  const first = turn("\u00ab", "First page", () => 0);
  const previous = turn("\u2039 Previous", "Previous page", () => shownPage() - 1);
  const next = turn("Next \u203a", "Next page", () => shownPage() + 1);
  const last = turn("\u00bb", "Last page", lastPage);
  const size = h("select", { ...QUIET });
  size.addEventListener("change", () => set({ page_size: Number(size.value), page: 0 }));
  const pager = h(
    "nav",
    { class: "sk-pager", "aria-label": "Pages" },
    range,
    field("Rows", size),
    first,
    previous,
    next,
    last,
  );

  // Card
  const opened = h("section", { class: "sk-opened", "aria-label": "Opened feature" });
  const status = h("output", { class: "sk-spoken", "aria-live": "polite" });
  el.replaceChildren(controls, frame, pager, opened, status);

  const open = (feature: number) => {
    const to = feature === model.get("feature") ? -1 : feature;
    set({ feature: to });
    status.textContent = to < 0 ? "Card closed" : `Card of feature ${to} opened below the table`;
  };

  const drawRows = () => {
    const pageSize = model.get("page_size");
    const page = shownPage();
    const focused =
      document.activeElement instanceof HTMLElement && body.contains(document.activeElement)
        ? document.activeElement.dataset.feature
        : undefined;
    const visible = [...rows.subarray(page * pageSize, (page + 1) * pageSize)];
    body.replaceChildren(
      ...visible.map((feature, i) => row(columns, feature, i === 0, model.get("feature") === feature)),
    );
    if (visible.length === 0) {
      const words =
        columns.length === 0
          ? "The index holds no features."
          : "No feature matches. Shorten the search or widen the density range.";
      body.replaceChildren(
        h("tr", { class: "sk-nothing" }, h("td", { colspan: COLUMNS.length, class: "sk-empty" }, words)),
      );
    }
    if (focused !== undefined) body.querySelector<HTMLElement>(`[data-feature="${focused}"]`)?.focus();
    const all =
      rows.length === columns.length
        ? `${count(columns.length)} features`
        : `${count(rows.length)} of ${count(columns.length)} features match`;
    const from =
      rows.length === 0
        ? ""
        : `Rows ${count(page * pageSize + 1)}\u2013${count(page * pageSize + visible.length)} \u00b7 page ${count(page + 1)} of ${count(lastPage() + 1)} \u00b7 `;
    range.textContent = from + all;
    first.disabled = previous.disabled = page === 0;
    next.disabled = last.disabled = page === lastPage();
  };

  const query = () => {
    rows = select(columns, {
      sort: model.get("sort"),
      descending: model.get("descending"),
      filter: model.get("filter"),
      min_density: model.get("min_density"),
      max_density: model.get("max_density"),
      hide_dead: model.get("hide_dead"),
    }) as Int32Array<ArrayBuffer>;
    heads.forEach((head, i) => {
      const sorted = COLUMNS[i] === model.get("sort");
      head.setAttribute("aria-sort", sorted ? (model.get("descending") ? "descending" : "ascending") : "none");
    });
    if (typing === undefined && search.value !== model.get("filter")) search.value = model.get("filter");
    const percent = (value: number | null) => (value === null ? "" : String(Number((value * 100).toPrecision(6))));
    low.value = percent(model.get("min_density"));
    high.value = percent(model.get("max_density"));
    dead.checked = model.get("hide_dead");
    const sizes = [...new Set([...SIZES, model.get("page_size")])].sort((a, b) => a - b);
    size.replaceChildren(
      ...sizes.map((n) => h("option", { value: n, selected: n === model.get("page_size") }, String(n))),
    );
    drawRows();
  };

  const drawCardBelow = () => {
    const feature = model.get("feature");
    opened.hidden = feature < 0;
    if (feature < 0) {
      opened.replaceChildren();
      return;
    }
    const close = button("Close", "sk-button sk-close", () => {
      open(feature);
      body.querySelector<HTMLElement>(`[data-feature="${feature}"]`)?.focus();
    });
    const content = cardOrWords(
      feature,
      model.get("card"),
      model.get("cards"),
      model.get("live"),
      model.get("error"),
      open,
    );
    opened.replaceChildren(close, content);
  };

  body.addEventListener("click", (event) => {
    const line = event.target instanceof Element ? event.target.closest<HTMLElement>("tr[data-row]") : null;
    if (!line || String(document.getSelection() ?? "") !== "") return; // selecting text in a row is not a click on it
    open(Number(line.dataset.row));
  });
  body.addEventListener("keydown", (event) => {
    const presses = [...body.querySelectorAll<HTMLElement>("td button")];
    const at = presses.indexOf(event.target as HTMLElement);
    const to = rove(event, at, presses.length, { on: ["ArrowDown"], back: ["ArrowUp"] });
    if (to === null) return;
    for (const [i, press] of presses.entries()) press.tabIndex = i === to ? 0 : -1;
    presses[to]?.focus();
  });

  listen<BrowserState>(
    model,
    ["sort", "descending", "filter", "min_density", "max_density", "hide_dead", "page_size"],
    query,
    signal,
  );
  listen<BrowserState>(model, ["page"], drawRows, signal);
  listen<BrowserState>(model, ["feature"], drawRows, signal);
  listen<BrowserState>(model, ["feature", "card", "cards", "error"], drawCardBelow, signal);
  listen<BrowserState>(
    model,
    ["columns"],
    () => {
      columns = new Columns(model.get("columns"));
      query();
    },
    signal,
  );
  query();
  drawCardBelow();
}

function row(columns: Columns, feature: number, isStop: boolean, isOpen: boolean): HTMLElement {
  const press = button(String(feature), "");
  press.dataset.feature = String(feature);
  press.tabIndex = isStop ? 0 : -1;
  press.setAttribute("aria-expanded", String(isOpen));
  press.setAttribute("aria-label", `Feature ${feature}, ${isOpen ? "close" : "open"} its card`);
  const [before, firing, after] = (columns.example[feature] ?? "").split(new RegExp(`[${BEGIN}${END}]`));
  const isDead = (columns.n_firings[feature] ?? 0) === 0;
  const example = h("td", { class: "sk-example" });
  if (firing !== undefined) example.append(glyphs(before ?? ""), h("mark", {}, glyphs(firing)), glyphs(after ?? ""));
  else if (isDead) example.append(h("span", { class: "sk-soft" }, "dead: never fired"));
  const promoted = columns.promoted[feature] ?? "";
  return h(
    "tr",
    { "data-row": feature, class: isOpen ? "sk-open" : null },
    h("td", { class: "sk-right" }, press),
    h("td", { class: "sk-right" }, share(columns.density[feature])),
    h("td", { class: "sk-right" }, number(columns.max[feature])),
    h("td", { class: "sk-right" }, count(columns.n_firings[feature])),
    h("td", { title: promoted ? alone(promoted) : null }, h("code", {}, glyphs(promoted))),
    example,
  );
}

export default { render };
