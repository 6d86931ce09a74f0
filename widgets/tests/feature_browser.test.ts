import { describe, expect, test, vi } from "vitest";
import type { BrowserState } from "../src/browser/state";
import browser from "../src/feature_browser";
import { cardData } from "./card_data";
import { all, float32, HOSTILE, int32, mount, one, press, texts } from "./support";

describe("FeatureBrowser", () => {
  const n = 30;
  const state = (): BrowserState => ({
    columns: {
      name: texts(...Array.from({ length: n }, (_, i) => (i === 0 ? "silent" : `name${i}${i === 4 ? HOSTILE : ""}`))),
      density: float32(...Array.from({ length: n }, (_, i) => i / 100)),
      max: float32(...Array.from({ length: n }, (_, i) => (i * 7) % n)),
      n_firings: int32(...Array.from({ length: n }, (_, i) => i)),
      promoted: texts(...Array.from({ length: n }, (_, i) => (i === 4 ? HOSTILE : ` token${i}`))),
      example: texts(...Array.from({ length: n }, (_, i) => (i === 0 ? "" : `some \u0002word${i}\u0003 here`))),
    },
    sort: "density",
    descending: true,
    filter: "",
    min_density: null,
    max_density: null,
    hide_silent: false,
    page: 0,
    page_size: 10,
    feature: -1,
    card: {},
    cards: {},
    live: true,
    error: "",
    refused: "",
    picture_id: "",
  });
  const shown = (el: Element) => all(el, "tbody button").map((b) => Number(b.textContent));
  const head = (el: Element, i: number) => all(el, "th")[i] as HTMLElement;

  test("what Python refuses is said until it takes something", () => {
    const { el, model } = mount(browser, state());
    const line = one(el, ":scope > .sk-error");
    expect(line.hidden).toBe(true);
    model.set("refused", `the filter is too long ${HOSTILE}`);
    expect([line.hidden, line.textContent]).toEqual([false, `the filter is too long ${HOSTILE}`]);
    model.set("refused", "");
    expect(line.hidden).toBe(true);
  });
  test("headers sort, reverse and set aria-sort", () => {
    const { el, model } = mount(browser, state());
    expect(shown(el)).toEqual([29, 28, 27, 26, 25, 24, 23, 22, 21, 20]);
    expect(all(el, "th").map((t) => t.getAttribute("aria-sort"))).toEqual([
      "none",
      "none",
      "descending",
      "none",
      "none",
      "none",
      "none",
    ]);
    one(head(el, 2), "button").click();
    expect([model.get("descending"), head(el, 2).getAttribute("aria-sort")]).toEqual([false, "ascending"]);
    expect(shown(el)[0]).toBe(0);
    one(head(el, 0), "button").click();
    expect([model.get("sort"), model.get("descending"), model.get("page")]).toEqual(["feature", false, 0]);
  });
  test("pages turn and stop at both ends", () => {
    const { el, model } = mount(browser, state());
    const [first, previous, next, last] = all<HTMLButtonElement>(el, ".sk-pager button") as [
      HTMLButtonElement,
      HTMLButtonElement,
      HTMLButtonElement,
      HTMLButtonElement,
    ];
    expect([first.disabled, previous.disabled, next.disabled]).toEqual([true, true, false]);
    next.click();
    expect(model.get("page")).toBe(1);
    expect(one(el, ".sk-range").textContent).toBe("Rows 11–20 · page 2 of 3 · 30 features");
    last.click();
    expect([model.get("page"), last.disabled]).toEqual([2, true]);
    model.set("page", 99);
    expect(one(el, ".sk-range").textContent).toContain("page 3 of 3");
  });
  test("the search waits for a pause and turns to the first page", () => {
    vi.useFakeTimers();
    const { el, model } = mount(browser, { ...state(), page: 2 });
    const search = one<HTMLInputElement>(el, "input[type=search]");
    for (const words of ["w", "wo", "word1"]) {
      search.value = words;
      search.dispatchEvent(new Event("input"));
    }
    expect(model.saved).toBe(0);
    vi.advanceTimersByTime(200);
    vi.useRealTimers();
    expect([model.get("filter"), model.get("page"), model.saved]).toEqual(["word1", 0, 1]);
    expect(shown(el)).toEqual([19, 18, 17, 16, 15, 14, 13, 12, 11, 10]);
    expect(one(el, ".sk-range").textContent).toContain("11 of 30 features match");
    model.set("filter", "nothing like it");
    expect(one(el, ".sk-no-rows").textContent).toContain("No feature matches.");
  });
  test("density bounds are percentages; invalid ones are marked and not sent", () => {
    const { el, model } = mount(browser, state());
    const low = one<HTMLInputElement>(el, "[aria-label='Lowest density in percent']");
    low.value = "25";
    low.dispatchEvent(new Event("change"));
    expect(model.get("min_density")).toBe(0.25);
    expect(shown(el)).toEqual([29, 28, 27, 26, 25]);
    low.value = "250";
    low.dispatchEvent(new Event("change"));
    expect([model.get("min_density"), low.getAttribute("aria-invalid")]).toEqual([0.25, "true"]);
  });
  test("a row opens and closes its card; text stays text", () => {
    const { el, model } = mount(browser, { ...state(), page: 2, cards: { "4": cardData(4) } });
    expect(el.querySelector("img")).toBeNull();
    one(el, "tr[data-row='4']").click();
    expect(model.get("feature")).toBe(4);
    expect(one(el, ".sk-open-card h3").textContent).toBe("Feature 4");
    expect(one(el, "tr[data-row='4'] button").getAttribute("aria-expanded")).toBe("true");
    one(el, ".sk-close").click();
    expect([model.get("feature"), one(el, ".sk-open-card").hidden]).toEqual([-1, true]);
  });
  test("arrow keys walk the rows", () => {
    const { el } = mount(browser, state());
    const rows = all(el, "tbody button");
    rows[0]?.focus();
    press(rows[0] as Element, "ArrowDown");
    press(rows[1] as Element, "ArrowDown");
    expect(document.activeElement).toBe(rows[2]);
    expect(rows.filter((r) => r.tabIndex === 0)).toEqual([rows[2]]);
  });
  test("names stand first; what the filter finds by name comes before the rest", () => {
    const { el, model } = mount(browser, state());
    expect(all(el, "th").map((t) => t.textContent)[1]).toBe("Name");
    expect(one(el, "tr[data-row='29'] .sk-name").textContent).toBe("name29");
    model.set("filter", "2");
    expect(shown(el)).toEqual([2, 29, 28, 27, 26, 25, 24, 23, 22, 21]);
    model.set("filter", "name5");
    expect([shown(el), one(el, ".sk-range").textContent]).toEqual([
      [5],
      "Rows 1\u20131 \u00b7 page 1 of 1 \u00b7 1 of 30 features match",
    ]);
    model.set("columns", {
      ...state().columns,
      example: texts(...Array.from({ length: n }, (_, i) => (i > 26 ? "name5" : ""))),
    });
    expect(shown(el)).toEqual([5, 29, 28, 27]);
    expect(one(el, ".sk-range").textContent).toContain("4 of 30 features match, 1 by name first");
    expect(all(el, ".sk-ends-named").map((row) => row.dataset.row)).toEqual(["5"]);
  });
  test("a context has its firing token marked, and all of it as a title", () => {
    const { el } = mount(browser, state());
    const context = one(el, "tr[data-row='29'] .sk-context");
    expect([...context.childNodes].map((node) => node.textContent)).toEqual(["some ", "word29", " here"]);
    expect([one(context, "mark").textContent, context.title]).toEqual(["word29", "some word29 here"]);
    expect(one(el, "tr[data-row='29']").textContent).not.toContain("\u0002");
  });
  test("columns are as wide as their widest number", () => {
    const density = float32(0.5, 0.00001234, 0);
    const columns = { density, max: float32(1234.5, 0.5, 0), n_firings: int32(1234567, 1, 0) };
    const { el } = mount(browser, { ...state(), columns });
    const width = (name: string) => one(el, "table").style.getPropertyValue(`--${name}`);
    expect(["feature", "density", "max", "n_firings"].map(width)).toEqual(["1ch", "9ch", "5ch", "9ch"]);
    expect(one(el, "tr[data-row='1'] .sk-density").textContent).toBe("0.00123 %");
  });
  test("an empty index has a message", () => {
    const { el } = mount(browser, { ...state(), columns: {} });
    expect(one(el, "tbody").textContent).toBe("The index holds no features.");
  });
});
