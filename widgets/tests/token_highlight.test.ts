import { describe, expect, test, vi } from "vitest";
import type { HighlightState } from "../src/highlight/state";
import highlight from "../src/token_highlight";
import { all, float32, HOSTILE, int32, mount, one, press } from "./support";

describe("TokenHighlight", () => {
  const state = (): HighlightState => ({
    tokens: ["<bos>", " Golden", HOSTILE, "\n", " c"],
    bytes: {},
    excluded: ["special token", "", "", "", ""],
    acts: { start: int32(0, 0, 2, 3, 3, 3), feature: int32(3, 9, 9), value: float32(2, 1, 4) },
    statistics: { feature: int32(3, 9), max: float32(4, 8), density: float32(0.0625, 0.004), bits: float32(4, 8) },
    maxima_from: "index",
    explanation: "Relative to each feature's maximum.",
    n_features: 16,
    names: { "3": "bridge" },
    colour_by: "strongest",
    feature: null,
    n_features_shown: 6,
    min_density: 0,
    max_density: 1,
    min_relative: 0,
    filter: "",
    selected: -1,
    scale: null,
    reading: false,
    n_read: 5,
    status: "",
    error: "",
    refused: "",
    picture_id: "",
  });
  const standing = (): HighlightState => ({ ...state(), colour_by: "standout" });
  const heat = (el: Element) => all(el, ".sk-token").map((t) => t.style.getPropertyValue("--a"));

  test("colours by the strongest feature and says so", () => {
    const { el } = mount(highlight, state());
    expect(heat(el)).toEqual(["0.000", "0.500", "1.000", "0.000", "0.000"]);
    expect(one(el, ".sk-legend-title").textContent).toBe("Strongest activation of any feature");
    expect(one(el, ".sk-scale").getAttribute("aria-label")).toBe("Colour scale from 0 to 4");
  });
  test("a character spelt in several tokens is shown once, with the bytes of each on hover", () => {
    const bytes = { "1": " <0xF0><0x9F>", "2": "<0xA6>", "3": "<0x99>" };
    const { el } = mount(highlight, { ...state(), tokens: ["<bos>", " \u{1f999}", "", "", "!"], bytes });
    const tokens = all(el, ".sk-token");
    expect(tokens.map((t) => t.textContent)).toEqual(["<bos>", " \u{1f999}", "", "", "!"]);
    expect(tokens.map((t) => t.classList.contains("sk-continued"))).toEqual([false, false, true, true, false]);
    expect(tokens[2]?.title).toBe("\u2423\u{1f999} <0xA6>");
    expect(tokens[3]?.getAttribute("aria-label")).toContain("Token 3, \u{1f999} in part:");
    expect(tokens[4]?.title).toBe("");
    tokens[2]?.click();
    expect(one(el, ".sk-detail code").textContent).toBe("\u2423\u{1f999} <0xA6>");
  });
  test("tokens are text, with a real line break after a newline", () => {
    const { el } = mount(highlight, state());
    expect(el.querySelector("img")).toBeNull();
    expect(all(el, ".sk-token")[2]?.textContent).toBe(HOSTILE);
    expect(all(el, ".sk-token")[3]?.nextElementSibling?.tagName).toBe("BR");
    expect(all(el, ".sk-token")[0]?.classList.contains("sk-excluded")).toBe(true);
    expect(all(el, ".sk-token")[0]?.getAttribute("aria-label")).toBe("Token 0, <bos>: not counted, special token");
    expect(all(el, ".sk-token")[1]?.getAttribute("aria-label")).toBe(
      "Token 1, Golden: activation 2; strongest features 3, 9",
    );
  });
  test("a click selects a token and a second click deselects it", () => {
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
    expect(model.get("colour_by")).toBe("feature");
    expect(one(el, ".sk-legend").textContent).toContain("bridge");
    one(el, "[data-feature='3']").click();
    expect(model.get("feature")).toBeNull();
  });
  test("Python's feature and a fixed scale recolour", () => {
    const { el, model } = mount(highlight, state());
    model.set("feature", 9);
    model.set("colour_by", "feature");
    model.set("scale", 8);
    expect(heat(el)).toEqual(["0.000", "0.125", "0.500", "0.000", "0.000"]);
    model.set("feature", 7);
    expect(one(el, ".sk-legend").textContent).toContain("It does not fire on this text.");
  });
  test("a feature that does not exist is refused with a message", () => {
    const { el, model } = mount(highlight, state());
    const box = one<HTMLInputElement>(el, "input[type=number]");
    box.value = "16";
    box.dispatchEvent(new Event("change"));
    expect(model.get("feature")).toBeNull();
    expect(box.getAttribute("aria-invalid")).toBe("true");
    expect(one(el, "[role=status]:not(.sk-num)").textContent).toBe("Feature numbers run from 0 to 15.");
  });
  test("arrows, Home and End move the tab stop; Enter selects; other keys pass", () => {
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
    expect(one(el, ".sk-legend-title").textContent).toBe("Strongest activation of any feature");
  });
  test("an empty text has a note", () => {
    const { el } = mount(highlight, { ...state(), tokens: [], excluded: [], acts: {} });
    expect(one(el, ".sk-empty").textContent).toBe("No text yet.");
  });

  const slots = (el: Element) => all(el, ".sk-token").map((t) => t.dataset.slot);

  test("by default what stands out colours: relative activation times bits, the strongest of those shown", () => {
    const { el, model } = mount(highlight, standing());
    // Token 1: feature 3 at 2 / 4 has 0.5 * 4 = 2 bits, feature 9 at 1 / 8 has 1; token 2: feature 9 has 4 bits. Of the
    // four tokens that count, feature 3 is expected on a quarter of one and fires on one: 2 * (1 - 1 / 4) = 1.5 bits.
    expect(slots(el)).toEqual([undefined, "1", "0", undefined, undefined]);
    expect(heat(el)).toEqual(["0.000", "0.500", "0.500", "0.000", "0.000"]);
    const chips = all(el, ".sk-standouts .sk-chip");
    expect(chips.map((chip) => chip.dataset.feature)).toEqual(["9", "3"]);
    expect(chips[1]?.textContent).toBe("Feature 3 bridge, stands out by 1.5 bits; colour the text by it alone");
    expect(chips[0]?.title).toBe("feature 9: the first on 1 token, up to 50 % of its maximum");
    expect(all(el, ".sk-token")[1]?.getAttribute("aria-label")).toBe(
      "Token 1, Golden: feature 3, bridge, activation 2, 50 % of its maximum; strongest features 3, 9",
    );
    expect(one(el, ".sk-legend").textContent).toContain("2 of 2 features");
    expect(one(el, ".sk-explanation").textContent).toBe("Relative to each feature's maximum.");
    model.set("n_features_shown", 1);
    expect(slots(el)).toEqual([undefined, "one", "one", undefined, undefined]);
    expect(heat(el)).toEqual(["0.000", "0.125", "0.500", "0.000", "0.000"]);
  });
  test("the slider, the choice and the filters set traits", () => {
    const { el, model } = mount(highlight, standing());
    const slider = one<HTMLInputElement>(el, "input[type=range]");
    slider.value = "1";
    slider.dispatchEvent(new Event("input"));
    expect(model.get("n_features_shown")).toBe(1);
    const change = (selector: string, value: string) => {
      const box = one<HTMLInputElement>(el, selector);
      box.value = value;
      box.dispatchEvent(new Event("change"));
      return box;
    };
    change("[aria-label='Least activation in percent of the maximum']", "20");
    expect(model.get("min_relative")).toBe(0.2);
    expect(heat(el)).toEqual(["0.000", "0.000", "0.500", "0.000", "0.000"]);
    expect(one(el, "summary").textContent).toBe("Filters at least 20 % of the maximum");
    expect(change("[aria-label='Highest density in percent']", "120").getAttribute("aria-invalid")).toBe("true");
    change("input[type=search]", "brid");
    expect(all(el, ".sk-standouts .sk-chip").map((chip) => chip.dataset.feature)).toEqual(["3"]);
    change("input[type=search]", "9");
    expect(all(el, ".sk-standouts .sk-chip").map((chip) => chip.dataset.feature)).toEqual(["9"]);
    change("input[type=search]", "nothing");
    expect(one(el, ".sk-legend").textContent).toContain("Nothing stands out.");
    change("select", "strongest");
    expect([model.get("colour_by"), model.get("feature")]).toEqual(["strongest", null]);
    model.set("filter", "");
    change("select", "feature");
    expect([model.get("colour_by"), model.get("feature")]).toEqual(["feature", 9]);
  });
  test("dense features are set aside, said so, and shown on demand", () => {
    const { el, model } = mount(highlight, { ...standing(), max_density: 0.05 });
    expect(one(el, ".sk-aside").textContent).toBe(
      "Set aside: 1 feature denser than 5 %, 1 special token. Show these features",
    );
    expect(slots(el)).toEqual([undefined, "one", "one", undefined, undefined]);
    one(el, ".sk-aside button").click();
    expect([model.get("max_density"), model.get("min_density")]).toEqual([1, 0]);
    expect(slots(el)).toEqual([undefined, "1", "0", undefined, undefined]);
    expect(one(el, ".sk-aside").textContent).toContain("No feature is set aside by its density");
    one(el, ".sk-aside button").click();
    expect(model.get("max_density")).toBe(0.05);
  });
  test("features beyond six have a broken line, and a chip of the legend colours by it alone", () => {
    const n = 8;
    const numbers = Array.from({ length: n }, (_, i) => i);
    const { el, model } = mount(highlight, {
      ...standing(),
      tokens: numbers.map(String),
      excluded: numbers.map(() => ""),
      acts: { start: int32(...numbers, n), feature: int32(...numbers), value: float32(...numbers.map((i) => 9 - i)) },
      statistics: {
        feature: int32(...numbers),
        max: float32(...numbers.map(() => 9)),
        density: float32(...numbers.map(() => 0.01)),
        bits: float32(...numbers.map(() => 6)),
      },
      n_features_shown: 8,
    });
    expect(slots(el)).toEqual(["0", "1", "2", "3", "4", "5", "0 broken", "1 broken"]);
    one(el, ".sk-standouts [data-feature='7']").click();
    expect([model.get("feature"), model.get("colour_by")]).toEqual([7, "feature"]);
    expect(slots(el).every((slot) => slot === undefined)).toBe(true);
  });
  test("the selection goes with the focus of the selected token", () => {
    const { el, model } = mount(highlight, { ...standing(), selected: 1 });
    const tokens = all(el, ".sk-token");
    tokens[1]?.focus();
    press(tokens[1] as Element, "ArrowRight");
    expect([model.get("selected"), document.activeElement]).toEqual([2, tokens[2]]);
    press(tokens[2] as Element, "Enter");
    press(tokens[2] as Element, "ArrowRight");
    expect([model.get("selected"), document.activeElement]).toEqual([-1, tokens[3]]);
  });
  test("a text that is being read says how far it is, can be stopped, and fills in", async () => {
    const unread = ["special token", "", "not read", "not read", "not read"];
    const { el, model } = mount(highlight, {
      ...standing(),
      acts: { start: int32(0, 0, 2, 2, 2, 2), feature: int32(3, 9), value: float32(2, 1) },
      excluded: unread,
      reading: true,
      n_read: 2,
      status: "2 of 5 tokens, 1 a second, 3 s left",
    });
    expect(one<HTMLProgressElement>(el, "progress").value).toBeCloseTo(0.4);
    expect(one(el, ".sk-aside").textContent).toContain("1 special token, 3 tokens not read");
    const stop = one<HTMLButtonElement>(el, ".sk-reading button");
    stop.click();
    expect(model.sent).toEqual([{ kind: "stop" }]);
    expect([stop.disabled, one(el, ".sk-reading").textContent]).toEqual([
      true,
      "2 of 5 tokens, 1 a second, 3 s left Stopping after this window.Stop",
    ]);
    model.set("acts", state().acts);
    model.set("excluded", state().excluded);
    model.set("reading", false);
    model.set("status", "Read 5 tokens in 5.0 s.");
    await Promise.resolve();
    expect(slots(el)).toEqual([undefined, "1", "0", undefined, undefined]);
    expect(all(el, ".sk-excluded").length).toBe(1);
    expect([stop.hidden, one(el, ".sk-reading span").textContent]).toEqual([true, "Read 5 tokens in 5.0 s."]);
  });
  test("a long text is drawn in pieces, and a key reaches what is not drawn yet", async () => {
    const n = 2600;
    const numbers = Array.from({ length: n }, (_, i) => i);
    const { el } = mount(highlight, {
      ...standing(),
      tokens: numbers.map((i) => (i % 50 === 49 ? "\n" : ` w${i}`)),
      excluded: numbers.map(() => ""),
      acts: { start: int32(...numbers, n), feature: int32(...numbers.map(() => 3)), value: float32(...numbers) },
    });
    expect(all(el, ".sk-token").length).toBe(1200);
    expect(all(el, ".sk-block").length).toBe(8);
    all(el, ".sk-token")[0]?.focus();
    press(all(el, ".sk-token")[0] as Element, "End");
    expect(all(el, ".sk-token").length).toBe(n);
    expect(document.activeElement).toBe(all(el, ".sk-token")[n - 1]);
    await vi.waitFor(() => expect(all(el, ".sk-token[data-slot]").length).toBe(n - 1), { timeout: 10_000 });
    expect(el.textContent).toContain("w2598");
  }, 20_000);
});
