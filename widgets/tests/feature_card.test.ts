import { describe, expect, test } from "vitest";
import card, { type CardState } from "../src/feature_card";
import { cardData } from "./card_data";
import { all, HOSTILE, mount, one, press } from "./support";

describe("FeatureCard", () => {
  const state = (changes: Partial<CardState> = {}): CardState => ({
    feature: 3,
    n_features: 16,
    card: cardData(3),
    cards: {},
    live: true,
    error: "",
    refused: "",
    picture_id: "",
    ...changes,
  });
  test("shows everything, as text", () => {
    const { el } = mount(card, state());
    expect(el.querySelector("img:not([role])")).toBeNull();
    expect(one(el, "h3").textContent).toBe("Feature 3");
    expect(one(el, "svg").getAttribute("aria-label")).toBe(
      "Histogram of 12 activations from 0 to 2, counts on a logarithmic scale",
    );
    expect(all(el, ".sk-promoted .sk-bar").map((b) => b.style.getPropertyValue("--a"))).toEqual(["1.000", "0.500"]);
    expect(one(el, "mark").textContent).toBe(HOSTILE);
    expect(all(el, "[role=tab]").map((t) => t.lastElementChild?.textContent)).toEqual([
      "top 12",
      ...["9 firings", "8 firings", "7 firings", "6 firings", "5 firings", "4 firings", "3 firings", "2 firings"],
      ...["1 firing", "0 firings"],
    ]);
    expect(all(el, ".sk-contexts li").length).toBe(10);
    one(el, ".sk-panel .sk-button").click();
    expect(all(el, ".sk-contexts li").length).toBe(12);
  });
  test("the heading holds the name, and a line below it what the name rests on", () => {
    const names = { "3": `bridges ${HOSTILE}` };
    const label = { label: `bridges and more ${HOSTILE}`, stars: 4, note: "Golden Gate\nand others", author: "ada" };
    const naming = { kind: "label", fraction: null, n_documents: 0, source: "hand", ...label };
    const { el, model } = mount(card, state({ card: { ...cardData(3), names, naming } }));
    expect(one(el, "h3").textContent).toBe(`Feature 3 bridges and more ${HOSTILE}`);
    expect(one(el, ".sk-stars").getAttribute("aria-label")).toBe("4 of 5 stars");
    const words = all(el, ".sk-naming span").map((span) => span.textContent);
    expect(words).toEqual(["\u2605\u2605\u2605\u2605\u2606", "Golden Gate\nand others", "labelled by ada"]);
    const imported = { ...naming, stars: null, note: "", source: "labels.json" };
    model.set("card", { ...cardData(3), names, naming: imported });
    expect(one(el, ".sk-naming").textContent).toBe("label from labels.json");
    const automatic = { ...imported, kind: "token", fraction: 0.684, n_documents: 12, label: "" };
    model.set("card", { ...cardData(3), names, naming: automatic });
    expect(one(el, "h3").textContent).toBe(`Feature 3 bridges ${HOSTILE}`);
    expect(one(el, ".sk-naming").textContent).toBe(
      "Named by what it fires on: this carries 68.4 % of its activation on 12 other documents.",
    );
    model.set("card", { ...cardData(3), names, naming: { ...automatic, kind: "mixed", fraction: 0.2 } });
    expect(one(el, ".sk-naming").textContent).toContain("No few words carry half of its activation; these carry 20 %");
    model.set("card", { ...cardData(3), names, naming: { ...automatic, fraction: null } });
    expect(one(el, ".sk-naming").textContent).toContain("in too few documents");
  });
  test("a neighbour's chip says what it shows", () => {
    const { el } = mount(card, state());
    expect(all(el, ".sk-neighbours button").map((chip) => chip.textContent)).toEqual([
      "Feature 4 some name, cosine 0.900; open its card",
      "Feature 5, cosine 0.800; open its card",
    ]);
  });
  test("tabs show activation bins, by mouse and by arrow", () => {
    const { el } = mount(card, state());
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
    const { el, model } = mount(card, state({ cards: { "5": cardData(5, true) } }));
    all(el, ".sk-neighbours button")[0]?.click();
    expect([model.get("feature"), model.saved]).toEqual([4, 1]);
    expect(one(el, "[role=status]").textContent).toBe("Loading feature 4…");
    model.set("feature", 5);
    expect(one(el, ".sk-badge").textContent).toBe("silent");
    expect(el.querySelector("[role=tab]")).toBeNull();
  });
  test("a page without the card, and an error, have a message", () => {
    const { el, model } = mount(card, state({ feature: 8, card: {}, cards: { "5": cardData(5) }, live: false }));
    expect(el.textContent).toContain(
      "The card of feature 8 is not part of this page. It holds one card; the notebook has all.",
    );
    model.set("error", "the index is gone");
    expect(one(el, "[role=alert]").textContent).toBe("the index is gone");
  });
});
