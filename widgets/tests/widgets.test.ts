import { describe, expect, test, vi } from "vitest";
import browser, { type BrowserState } from "../src/feature_browser";
import card from "../src/feature_card";
import type { CardData } from "../src/shared/card";
import highlight, { type HighlightState } from "../src/token_highlight";
import { all, float32, int32, mount, one, press, texts } from "./support";

const HOSTILE = "<img src=x onerror=alert(1)>";

describe("TokenHighlight", () => {
  const state = (): HighlightState => ({
    tokens: ["<bos>", " Golden", HOSTILE, "\n", " c"],
    excluded: ["special token", "", "", "", ""],
    acts: { start: int32(0, 0, 2, 3, 3, 3), feature: int32(3, 9, 9), value: float32(2, 1, 4) },
    n_features: 16,
    names: { "3": "bridge" },
    feature: null,
    selected: -1,
    scale: null,
  });
  const heat = (el: Element) => all(el, ".sk-token").map((t) => t.style.getPropertyValue("--a"));

  test("colours by the strongest feature and says so", () => {
    const { el } = mount(highlight, state());
    expect(heat(el)).toEqual(["0.000", "0.500", "1.000", "0.000", "0.000"]);
    expect(one(el, ".sk-what").textContent).toBe("Strongest activation of any feature");
    expect(one(el, ".sk-scale").getAttribute("aria-label")).toBe("Colour scale from 0 to 4");
  });
  test("tokens are text, with a real line break after a newline", () => {
    const { el } = mount(highlight, state());
    expect(el.querySelector("img")).toBeNull();
    expect(all(el, ".sk-token")[2]?.textContent).toBe(HOSTILE);
    expect(all(el, ".sk-token")[3]?.nextElementSibling?.tagName).toBe("BR");
    expect(all(el, ".sk-token")[0]?.classList.contains("sk-out")).toBe(true);
    expect(all(el, ".sk-token")[0]?.getAttribute("aria-label")).toBe("Token 0, <bos>: not counted, special token");
    expect(all(el, ".sk-token")[1]?.getAttribute("aria-label")).toBe(
      "Token 1, Golden: activation 2; strongest features 3, 9",
    );
  });
  test("a click picks a token and a second click lets it go", () => {
    const { el, model } = mount(highlight, state());
    all(el, ".sk-token")[1]?.click();
    expect([model.get("selected"), model.saved]).toEqual([1, 1]);
    expect(one(el, "output").textContent).toBe("Token 1 selected: Golden");
    all(el, ".sk-token")[1]?.click();
    expect(model.get("selected")).toBe(-1);
  });
  test("a chip recolours and the same chip goes back", () => {
    const { el, model } = mount(highlight, { ...state(), selected: 1 });
    one(el, "[data-feature='3']").click();
    expect(model.get("feature")).toBe(3);
    expect(heat(el)).toEqual(["0.000", "1.000", "0.000", "0.000", "0.000"]);
    expect(one(el, ".sk-legend").textContent).toContain("promotes bridge");
    one(el, "[data-feature='3']").click();
    expect(model.get("feature")).toBeNull();
  });
  test("Python's feature and a fixed scale recolour", () => {
    const { el, model } = mount(highlight, state());
    model.set("feature", 9);
    model.set("scale", 8);
    expect(heat(el)).toEqual(["0.000", "0.125", "0.500", "0.000", "0.000"]);
    model.set("feature", 7);
    expect(one(el, ".sk-legend").textContent).toContain("It does not fire on this text.");
  });
  test("a feature that does not exist is refused in words", () => {
    const { el, model } = mount(highlight, state());
    const box = one<HTMLInputElement>(el, "input");
    box.value = "16";
    box.dispatchEvent(new Event("change"));
    expect(model.get("feature")).toBeNull();
    expect(box.getAttribute("aria-invalid")).toBe("true");
    expect(one(el, "[role=status]").textContent).toBe("Feature numbers run from 0 to 15.");
  });
  test("arrows, Home and End move one tab stop; Enter picks; other keys are left alone", () => {
    const { el, model } = mount(highlight, state());
    const tokens = all(el, ".sk-token");
    expect(tokens.filter((t) => t.tabIndex === 0)).toEqual([tokens[0]]);
    tokens[0]?.focus();
    press(tokens[0] as Element, "ArrowRight");
    expect(document.activeElement).toBe(tokens[1]);
    expect(tokens.filter((t) => t.tabIndex === 0)).toEqual([tokens[1]]);
    press(tokens[1] as Element, "Enter");
    expect(model.get("selected")).toBe(1);
    press(tokens[1] as Element, "End");
    expect(document.activeElement).toBe(tokens[4]);
    press(tokens[4] as Element, "Home");
    expect(document.activeElement).toBe(tokens[0]);
    const bubbled = vi.fn();
    document.body.addEventListener("keydown", bubbled);
    press(tokens[0] as Element, "ArrowRight");
    expect(bubbled).not.toHaveBeenCalled();
    press(tokens[1] as Element, "b");
    expect(bubbled).toHaveBeenCalledOnce();
    expect(tokens.every((t) => t.hasAttribute("data-lm-suppress-shortcuts"))).toBe(true);
  });
  test("a closed view no longer listens", () => {
    const { el, model, controller } = mount(highlight, state());
    controller.abort();
    model.set("feature", 9);
    expect(one(el, ".sk-what").textContent).toBe("Strongest activation of any feature");
  });
  test("no text is said", () => {
    const { el } = mount(highlight, { ...state(), tokens: [], excluded: [], acts: {} });
    expect(one(el, ".sk-empty").textContent).toBe("No text yet.");
  });
});

const context = {
  tokens: ["a", HOSTILE, "c"],
  acts: [0, 2, 1],
  centre: 1,
  activation: 2,
  document: 4,
  labels: { topic: HOSTILE },
};
const data = (feature: number, dead = false): CardData => ({
  feature,
  stats: { density: 0.01, n_firings: dead ? 0 : 12, n_documents: 3, max: 2, mean: 1, std: 0.5, dead },
  histogram: { edges: [0, 1, 2], counts: dead ? [0, 0] : [9, 3] },
  top: dead ? [] : Array.from({ length: 12 }, () => context),
  intervals: Array.from({ length: 10 }, (_, i) => ({
    low: i / 5,
    high: (i + 1) / 5,
    count: i,
    share: i / 45,
    contexts: i ? [context] : [],
  })),
  promoted: [
    [HOSTILE, 0.5],
    [" b", 0.25],
  ],
  suppressed: [["c", -0.5]],
  neighbours: [
    [feature + 1, 0.9],
    [feature + 2, 0.8],
  ],
  names: { [feature + 1]: "some name" },
});

describe("FeatureCard", () => {
  test("shows everything, as text", () => {
    const { el } = mount(card, { feature: 3, card: data(3), cards: {}, live: true, error: "" });
    expect(el.querySelector("img:not([role])")).toBeNull();
    expect(one(el, "h3").textContent).toBe("Feature 3");
    expect(one(el, "svg").getAttribute("aria-label")).toBe(
      "Histogram of 12 activations from 0 to 2, counts on a logarithmic scale",
    );
    expect(all(el, ".sk-promoted .sk-bar").map((b) => b.style.getPropertyValue("--a"))).toEqual(["1.000", "0.500"]);
    expect(one(el, "mark").textContent).toBe(HOSTILE);
    expect(all(el, "[role=tab]").map((t) => t.lastElementChild?.textContent)).toEqual([
      "top 12",
      "9",
      "8",
      "7",
      "6",
      "5",
      "4",
      "3",
      "2",
      "1",
      "0",
    ]);
    expect(all(el, ".sk-contexts li").length).toBe(10);
    one(el, ".sk-panel .sk-button").click();
    expect(all(el, ".sk-contexts li").length).toBe(12);
  });
  test("tabs show intervals, by mouse and by arrow", () => {
    const { el } = mount(card, { feature: 3, card: data(3), cards: {}, live: true, error: "" });
    const tabs = all(el, "[role=tab]");
    tabs[1]?.click();
    expect(one(el, "[role=tabpanel]").textContent).toContain(
      "1.80 to 2.00: 9 firings, 20 % of all; 1 drawn at random.",
    );
    tabs[1]?.focus();
    press(tabs[1] as Element, "End");
    expect(tabs.map((t) => t.getAttribute("aria-selected")).lastIndexOf("true")).toBe(10);
    expect(one(el, "[role=tabpanel]").textContent).toBe("It never fires between 0.00 and 0.20.");
  });
  test("a neighbour asks for its card, which may be embedded", () => {
    const { el, model } = mount(card, {
      feature: 3,
      card: data(3),
      cards: { "5": data(5, true) },
      live: true,
      error: "",
    });
    all(el, ".sk-neighbours button")[0]?.click();
    expect([model.get("feature"), model.saved]).toEqual([4, 1]);
    expect(one(el, "[role=status]").textContent).toBe("Loading feature 4…");
    model.set("feature", 5);
    expect(one(el, ".sk-badge").textContent).toBe("dead");
    expect(el.querySelector("[role=tab]")).toBeNull();
  });
  test("a page without the card and an error say so", () => {
    const { el, model } = mount(card, { feature: 8, card: {}, cards: { "5": data(5) }, live: false, error: "" });
    expect(el.textContent).toContain(
      "The card of feature 8 is not part of this page. It holds one card; the notebook has all.",
    );
    model.set("error", "the index is gone");
    expect(one(el, "[role=alert]").textContent).toBe("the index is gone");
  });
});

describe("FeatureBrowser", () => {
  const n = 30;
  const state = (): BrowserState => ({
    columns: {
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
    hide_dead: false,
    page: 0,
    page_size: 10,
    feature: -1,
    card: {},
    cards: {},
    live: true,
    error: "",
  });
  const shown = (el: Element) => all(el, "tbody button").map((b) => Number(b.textContent));
  const head = (el: Element, i: number) => all(el, "th")[i] as HTMLElement;

  test("headers sort, turn around and say so", () => {
    const { el, model } = mount(browser, state());
    expect(shown(el)).toEqual([29, 28, 27, 26, 25, 24, 23, 22, 21, 20]);
    expect(all(el, "th").map((t) => t.getAttribute("aria-sort"))).toEqual([
      "none",
      "descending",
      "none",
      "none",
      "none",
      "none",
    ]);
    one(head(el, 1), "button").click();
    expect([model.get("descending"), head(el, 1).getAttribute("aria-sort")]).toEqual([false, "ascending"]);
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
    expect(one(el, ".sk-nothing").textContent).toContain("No feature matches.");
  });
  test("density bounds are percentages; nonsense is marked and not sent", () => {
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
    const { el, model } = mount(browser, { ...state(), page: 2, cards: { "4": data(4) } });
    expect(el.querySelector("img")).toBeNull();
    one(el, "tr[data-row='4']").click();
    expect(model.get("feature")).toBe(4);
    expect(one(el, ".sk-opened h3").textContent).toBe("Feature 4");
    expect(one(el, "tr[data-row='4'] button").getAttribute("aria-expanded")).toBe("true");
    one(el, ".sk-close").click();
    expect([model.get("feature"), one(el, ".sk-opened").hidden]).toEqual([-1, true]);
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
  test("an empty index is said", () => {
    const { el } = mount(browser, { ...state(), columns: {} });
    expect(one(el, "tbody").textContent).toBe("The index holds no features.");
  });
});
