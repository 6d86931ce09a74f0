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
    n_features: 16,
    names: { "3": "bridge" },
    feature: null,
    selected: -1,
    scale: null,
    refused: "",
    picture_id: "",
  });
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
  test("a feature that does not exist is refused with a message", () => {
    const { el, model } = mount(highlight, state());
    const box = one<HTMLInputElement>(el, "input");
    box.value = "16";
    box.dispatchEvent(new Event("change"));
    expect(model.get("feature")).toBeNull();
    expect(box.getAttribute("aria-invalid")).toBe("true");
    expect(one(el, "[role=status]").textContent).toBe("Feature numbers run from 0 to 15.");
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
});
