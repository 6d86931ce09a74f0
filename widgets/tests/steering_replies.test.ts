import { describe, expect, test } from "vitest";
import steering from "../src/steering_panel";
import {
  base,
  finished,
  gate,
  growing,
  labelled,
  named,
  plain,
  reply,
  runOf,
  spans,
  TOKENS,
  turn,
  type,
} from "./steering_fixtures";
import { all, HOSTILE, mount, one, press } from "./support";

describe("SteeringPanel: replies", () => {
  test("a message before the first run", () => {
    const { el } = mount(steering, base);
    expect([one(el, ".sk-empty").textContent, one(el, ".sk-colour").hidden, one(el, ".sk-history").hidden]).toEqual([
      "Press Run to generate a reply under each condition.",
      true,
      true,
    ]);
  });
  test("a column per condition shows its interventions and its metrics", () => {
    const concept = [reply(TOKENS, { present: false }), reply(["We"], { present: true, end: "length" })];
    const { el } = mount(steering, finished({ concept: "a bridge", exchanges: [{ user: "Hi", replies: concept }] }));
    const heads = all(el, ".sk-column header");
    expect(all(el, ".sk-column").map((c) => c.getAttribute("aria-label"))).toEqual(["unsteered", "gate"]);
    expect(all(heads[0] as Element, ".sk-interventions span, .sk-metrics span").map((s) => s.textContent)).toEqual([
      "as it is",
      "nll 1.91",
      "repeated 19 %",
      "3 tokens",
      "does not mention a bridge",
    ]);
    expect(all(heads[1] as Element, ".sk-interventions span, .sk-metrics span").map((s) => s.textContent)).toEqual([
      "feature 3 (bridge gate) at 0.4 \u00d7 residual norm",
      "nll 1.91",
      "repeated 19 %",
      "1 token, cut off",
      "mentions a bridge",
    ]);
    expect(all(el, ".sk-user").every((u) => u.hidden)).toBe(true);
  });
  test("tokens are text; the user's messages only where there are several turns", () => {
    const { el } = mount(steering, finished({ exchanges: [turn(), turn(HOSTILE)] }));
    expect(el.querySelector("img")).toBeNull();
    expect(all(el, ".sk-reply-text").map((s) => s.textContent)).toEqual([
      `I am${HOSTILE}`,
      `I am${HOSTILE}`,
      "We\ngo",
      "We\ngo",
    ]);
    expect(all(el, ".sk-user").map((u) => u.textContent)).toEqual(["Hi", HOSTILE, "Hi", HOSTILE]);
    expect(all(el, ".sk-reply-text")[1]?.getAttribute("aria-label")).toBe("Reply 2 of unsteered");
  });
  test("a growing reply keeps the spans it has", () => {
    const { el, model } = mount(steering, base);
    model.set("running", true);
    model.set("ran", [plain, gate]);
    expect(all(el, ".sk-column").length).toBe(2);
    model.set("exchanges", [{ user: "Hi", replies: [growing("a"), growing()] }]);
    const first = spans(el, 0)[0];
    model.set("exchanges", [{ user: "Hi", replies: [growing("a", " b", ""), growing("c")] }]);
    expect([
      spans(el, 0)[0] === first,
      all(el, ".sk-reply-text").map((s) => s.textContent),
      all(el, ".sk-writing").length,
    ]).toEqual([true, ["a b", "c"], 2]);
    model.set("exchanges", [{ user: "Hi", replies: [reply(["a", " b", "\u00fc"]), growing("c")] }]);
    expect([spans(el, 0)[0] === first, spans(el, 0)[2]?.textContent, all(el, ".sk-writing").length]).toEqual([
      true,
      "\u00fc",
      1,
    ]);
    model.set("exchanges", [{ user: "Hi", replies: [growing(), growing()] }]);
    expect(all(el, ".sk-reply-text .sk-token").length).toBe(0);
  });
  test("only a column that is at its end keeps scrolling", () => {
    const { el, model } = mount(steering, {
      ...base,
      running: true,
      ran: [plain, gate],
      exchanges: [{ user: "", replies: [growing("a"), growing("b")] }],
    });
    const [first, second] = all(el, ".sk-turns") as [HTMLElement, HTMLElement];
    for (const s of [first, second]) {
      Object.defineProperty(s, "scrollHeight", { value: 900 });
      Object.defineProperty(s, "clientHeight", { value: 400 });
    }
    [first.scrollTop, second.scrollTop] = [500, 100];
    model.set("exchanges", [{ user: "", replies: [growing("a", " c"), growing("b", " d")] }]);
    expect([first.scrollTop, second.scrollTop]).toEqual([900, 100]);
  });
  test("an empty reply has a note; conditions that do not fit the replies yet are shown without them", () => {
    const { el, model } = mount(
      steering,
      finished({ exchanges: [{ user: "Hi", replies: [reply([]), reply(["a"])] }] }),
    );
    expect(all(el, ".sk-empty-reply").map((n) => n.hidden)).toEqual([false, true]);
    model.set("running", true);
    model.set("ran", [plain, gate, { ...gate, name: "third" }]);
    expect([all(el, ".sk-column").length, all(el, ".sk-reply-text").length]).toEqual([3, 0]);
  });
  test("colours: by nll, by a feature, or none", () => {
    const { el, model } = mount(steering, finished({ colour_by: "unlikely" }));
    const heat = () => spans(el, 0).map((s) => s.style.getPropertyValue("--a"));
    expect([heat(), one(el, ".sk-scale").getAttribute("aria-label")]).toEqual([
      ["0.250", "0.250", "0.250"],
      "Colour scale from 0 to 8 nats, unsteered model",
    ]);
    named(el, "feature").click();
    expect([model.get("colour_by"), model.get("colour_feature"), heat()]).toEqual(["feature", 3, ["1.000", "", ""]]);
    type(labelled<HTMLInputElement>(one(el, ".sk-colour"), "Feature"), "9");
    expect([heat(), one(el, ".sk-scale").getAttribute("aria-label")]).toEqual([
      ["0.250", "1.000", ""],
      "Colour scale from 0 to 4 activation",
    ]);
    one(el, ".sk-colour [data-feature='3']").click();
    expect([
      model.get("colour_feature"),
      one(el, ".sk-colour [data-feature='3']").getAttribute("aria-pressed"),
    ]).toEqual([3, "true"]);
    named(el, "none").click();
    expect(heat()).toEqual(["", "", ""]);
  });
  test("a closed view no longer listens", () => {
    const { el, model, controller } = mount(steering, finished());
    controller.abort();
    model.set("exchanges", [{ user: "", replies: [reply(["new"]), reply(["new"])] }]);
    expect(all(el, ".sk-reply-text")[0]?.textContent).toBe(`I am${HOSTILE}`);
  });
});

describe("SteeringPanel: the card by a token", () => {
  const over = (target: Element | undefined) => target?.dispatchEvent(new Event("pointerover", { bubbles: true }));
  test("shows probability, candidates and features, and hides when the pointer leaves", () => {
    const { el } = mount(steering, finished());
    const card = one(el, ".sk-card");
    expect(card.hidden).toBe(true);
    over(spans(el, 0)[1]);
    expect([card.hidden, card.getAttribute("aria-label"), one(card, "p").textContent]).toEqual([
      false,
      "About the token am",
      "Unsteered model: 2.00 nats, 14 %",
    ]);
    expect(
      all(card, "tbody tr").map((r) =>
        all(r, "code, td")
          .map((c) => c.textContent)
          .slice(0, 3),
      ),
    ).toEqual([
      ["\u2423am", "1.0 %", "40 %"],
      ["\u2423was", "90 %", "30 %"],
    ]);
    expect(one(card, ".sk-written code").textContent).toBe("\u2423am");
    expect(all(card, ".sk-after").map((b) => b.style.getPropertyValue("--a"))).toEqual(["0.444", "0.333"]);
    expect(all(card, ".sk-chip").map((c) => c.dataset.feature)).toEqual(["9"]);
    one(el, ".sk-replies").dispatchEvent(new Event("pointerleave"));
    expect(card.hidden).toBe(true);
  });
  test("a click pins it, a chip colours, Escape hides it", () => {
    const { el, model } = mount(steering, finished());
    const card = one(el, ".sk-card");
    spans(el, 0)[0]?.click();
    over(spans(el, 0)[2]);
    one(el, ".sk-replies").dispatchEvent(new Event("pointerleave"));
    expect([card.hidden, card.classList.contains("sk-pinned"), el.querySelector("img")]).toEqual([false, true, null]);
    const chip = one(card, "[data-feature='9']");
    chip.click();
    expect([
      model.get("colour_by"),
      model.get("colour_feature"),
      one(card, "[data-feature='9']") === chip,
      chip.getAttribute("aria-pressed"),
    ]).toEqual(["feature", 9, true, "true"]);
    chip.click();
    expect(model.get("colour_by")).toBe("none");
    press(card, "Escape");
    expect(card.hidden).toBe(true);
  });
  test("arrow keys move through a reply, Enter goes into the card", () => {
    const { el } = mount(steering, finished());
    const [card, text] = [one(el, ".sk-card"), all(el, ".sk-reply-text")[0] as HTMLElement];
    text.focus();
    press(text, "ArrowRight");
    press(text, "ArrowRight");
    expect([one(el, ".sk-active").textContent, one(el, ".sk-visually-hidden[role=status]").textContent]).toEqual([
      " am",
      "am, token 1: 2.00 nats, 14 %",
    ]);
    press(text, "End");
    press(text, "ArrowRight");
    expect(one(el, ".sk-active")).toBe(spans(el, 0)[2]);
    press(text, "Home");
    press(text, "Enter");
    expect(document.activeElement).toBe(named(card, "Close"));
    press(document.activeElement as Element, "Escape");
    expect([document.activeElement === text, card.hidden]).toEqual([true, true]);
  });
  test("says why there are no details", () => {
    const { el, model } = mount(steering, finished({ runs: [runOf([turn()], { prompt: "old" }), runOf([turn()])] }));
    all(el, ".sk-history li button")[0]?.click();
    over(spans(el, 0)[0]);
    expect(one(el, ".sk-hint").textContent).toBe("Only the latest run has candidates and features.");
    model.set("running", true);
    expect(one(el, ".sk-card").hidden).toBe(true);
    model.set("exchanges", [{ user: "Hi", replies: [growing("a"), growing("b")] }]);
    model.set("details", [[null, null]]);
    over(spans(el, 0)[0]);
    expect(one(el, ".sk-hint").textContent).toBe("More when the reply is finished.");
  });
});
