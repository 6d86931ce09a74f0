import { afterEach, describe, expect, test, vi } from "vitest";
import type { Condition, Detail, Exchange, Reply, Run } from "../src/steering/state";
import steering, { type SteeringState } from "../src/steering_panel";
import { all, float32, int32, mount, one, press } from "./support";

const HOSTILE = "<img src=x onerror=alert(1)>";
const plain: Condition = { name: "unsteered", features: [], instruction: "", edits: "" };
const gate: Condition = { name: "gate", features: [{ feature: 3, strength: 0.4 }], instruction: "", edits: "" };
const base: SteeringState = {
  prompt: "Hi",
  chat: true,
  has_chat: true,
  conditions: [plain, gate],
  about: { "3": { name: " bridge gate", max: 20, recommended: 0.6 } },
  n_features: 16,
  unit: "norm",
  units: ["raw", "max", "norm"],
  residual_norm: 140,
  sweep_strengths: [0.2, 0.4],
  positions: "all",
  max_new_tokens: 8,
  temperature: 0,
  seed: 0,
  running: false,
  done: 0,
  total: 0,
  status: "",
  error: "",
  live: true,
  concept: "",
  ran: [],
  ran_unit: "norm",
  exchanges: [],
  details: [],
  runs: [],
  colour_by: "none",
  colour_feature: 0,
};
const reply = (tokens: string[], changes: Partial<Reply> = {}): Reply => ({
  tokens,
  nll: tokens.map(() => 2),
  repetition: 0.19,
  mean_nll: 1.91,
  present: null,
  end: "eos",
  ...changes,
});
const growing = (...tokens: string[]): Reply => reply(tokens, { nll: [], repetition: null, mean_nll: null, end: "" });
const detail: Detail = {
  start: int32(0, 2, 3, 3),
  feature: int32(3, 9, 9),
  value: float32(2, 1, 4),
  choices: [
    [
      ["I", 0.5, 0.6],
      [HOSTILE, 0.2, 0.1],
    ],
    [
      [" am", 0.01, 0.4],
      [" was", 0.9, 0.3],
    ],
    [[HOSTILE, 0.1, 0.1]],
  ],
};
const TOKENS = ["I", " am", HOSTILE];
const turn = (user = "Hi"): Exchange => ({
  user,
  replies: [reply(TOKENS), reply(["We", "\n", "go"], { end: "length" })],
});
const runOf = (exchanges: Exchange[], changes: Partial<Run> = {}): Run => ({
  prompt: "Hi",
  chat: true,
  positions: "all",
  max_new_tokens: 8,
  temperature: 0,
  seed: 0,
  unit: "norm",
  conditions: [plain, gate],
  exchanges,
  started: "now",
  ...changes,
});
const finished = (changes: Partial<SteeringState> = {}): SteeringState => ({
  ...base,
  ran: [plain, gate],
  exchanges: [turn()],
  details: [[detail, null]],
  runs: [runOf([turn()])],
  ...changes,
});
const type = (box: HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement, value: string, event = "change") => {
  box.value = value;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  if (event !== "input") box.dispatchEvent(new Event(event, { bubbles: true }));
};
const named = <T extends HTMLElement = HTMLButtonElement>(el: Element, name: string): T => {
  const found = all<T>(el, "button, input, textarea").find(
    (b) => b.getAttribute("aria-label") === name || b.textContent === name,
  );
  if (!found) throw new Error(`nothing is called ${name}`);
  return found;
};
const labelled = <T extends HTMLElement>(el: Element, label: string): T =>
  one<T>(all(el, "label").find((l) => l.textContent?.startsWith(label)) as Element, "input, select");
const box = (el: Element, i: number) => all(el, ".sk-condition")[i] as HTMLElement;
const spans = (el: Element, text: number) => all(all(el, ".sk-said")[text] as Element, ".sk-token");

describe("SteeringPanel: the form", () => {
  test("a condition's features are edited as a new list, and only that condition", () => {
    const { el, model } = mount(steering, base);
    const row = box(el, 1);
    type(named<HTMLInputElement>(row, "Strength of feature 3"), "0.75", "input");
    expect(model.get("conditions")).toEqual([plain, { ...gate, features: [{ feature: 3, strength: 0.75 }] }]);
    expect(base.conditions[1]?.features[0]?.strength).toBe(0.4);
    expect(named<HTMLInputElement>(row, "Strength as a number").value).toBe("0.75");
    type(named<HTMLInputElement>(row, "Strength as a number"), "-0.3");
    expect(named<HTMLInputElement>(row, "Strength of feature 3").min).toBe("-1");
    expect(one(row, ".sk-others").textContent).toBe("\u2248 \u221242 raw \u00b7 \u22122.1 \u00d7 max");
    type(named<HTMLInputElement>(row, "Feature"), "7");
    expect((model.get("conditions") as Condition[])[1]?.features).toEqual([{ feature: 7, strength: -0.3 }]);
  });
  test("what is no good is marked, kept and holds up the run", () => {
    const { el, model } = mount(steering, base);
    const number = named<HTMLInputElement>(box(el, 1), "Feature");
    type(number, "16");
    model.set("prompt", "other");
    expect([number.value, number.getAttribute("aria-invalid"), model.get("conditions")]).toEqual([
      "16",
      "true",
      base.conditions,
    ]);
    named(el, "Run").click();
    expect([model.sent, one(el, ".sk-status").textContent]).toEqual([
      [],
      "The marked box holds something that cannot be used.",
    ]);
    type(number, "5");
    named(el, "Run").click();
    expect([model.sent, number.hasAttribute("aria-invalid")]).toEqual([[{ kind: "run" }], false]);
  });
  test("a feature stands once in a condition", () => {
    const { el, model } = mount(steering, base);
    named(box(el, 1), "+ feature").click();
    expect((model.get("conditions") as Condition[])[1]?.features).toEqual([
      { feature: 3, strength: 0.4 },
      { feature: 0, strength: 0.4 },
    ]);
    const second = all<HTMLInputElement>(box(el, 1), "[aria-label='Feature']")[1] as HTMLInputElement;
    expect(document.activeElement).toBe(second);
    type(second, "3");
    expect(second.getAttribute("aria-invalid")).toBe("true");
    named(box(el, 1), "Remove feature 3").click();
    expect((model.get("conditions") as Condition[])[1]?.features).toEqual([{ feature: 0, strength: 0.4 }]);
    expect(named<HTMLInputElement>(box(el, 1), "Feature").value).toBe("0");
  });
  test("a number that was typed but not confirmed counts when a run is started by keyboard", () => {
    const { el, model } = mount(steering, base);
    const number = named<HTMLInputElement>(box(el, 1), "Strength as a number");
    type(number, "0.55", "input");
    number.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true, cancelable: true }),
    );
    expect([(model.get("conditions") as Condition[])[1]?.features[0]?.strength, model.sent]).toEqual([
      0.55,
      [{ kind: "run" }],
    ]);
  });
  test("words being typed are not overwritten by Python", () => {
    const { el, model } = mount(steering, base);
    const number = labelled<HTMLInputElement>(el, "Seed");
    type(number, "1", "input");
    const prompt = one<HTMLTextAreaElement>(el, "textarea");
    type(prompt, "What", "input");
    model.set("seed", 9);
    model.set("prompt", "older words");
    expect([number.value, prompt.value]).toEqual(["1", "What"]);
    prompt.dispatchEvent(new Event("blur"));
    model.set("prompt", "newer words");
    expect(prompt.value).toBe("newer words");
  });
  test("conditions are added, named and removed", () => {
    const { el, model } = mount(steering, base);
    named(el, "+ condition").click();
    expect((model.get("conditions") as Condition[])[2]).toEqual({ ...gate, name: "condition 3" });
    const title = named<HTMLInputElement>(box(el, 2), "Name of the condition");
    expect(document.activeElement).toBe(title);
    type(title, "", "input");
    expect((model.get("conditions") as Condition[])[2]?.name).toBe("condition 3");
    title.dispatchEvent(new Event("blur"));
    expect(title.value).toBe("condition 3");
    type(title, "twice", "input");
    expect([box(el, 2).getAttribute("aria-label"), (model.get("conditions") as Condition[])[2]?.name]).toEqual([
      "twice",
      "twice",
    ]);
    title.dispatchEvent(new Event("blur"));
    named(el, "Remove unsteered").click();
    expect((model.get("conditions") as Condition[]).map((c) => c.name)).toEqual(["gate", "twice"]);
    named(el, "Remove gate").click();
    expect([all(el, ".sk-condition").length, named(el, "Remove twice").hidden]).toEqual([1, true]);
  });
  test("an instruction opens, is written and removed; edits stay as they came", () => {
    const { el, model } = mount(steering, { ...base, conditions: [plain, { ...gate, edits: "Layer 3 is fixed." }] });
    expect(one(box(el, 0), ".sk-told").hidden).toBe(true);
    named(box(el, 0), "+ instruction").click();
    type(named<HTMLInputElement>(box(el, 0), "Instruction"), "Be kind.", "input");
    expect((model.get("conditions") as Condition[])[0]).toEqual({ ...plain, instruction: "Be kind." });
    named(box(el, 0), "Remove the instruction").click();
    expect([(model.get("conditions") as Condition[])[0], one(box(el, 0), ".sk-told").hidden]).toEqual([plain, true]);
    expect(one(box(el, 1), ".sk-edits").textContent).toBe("Layer 3 is fixed.");
    type(named<HTMLInputElement>(box(el, 1), "Strength as a number"), "1");
    expect((model.get("conditions") as Condition[])[1]?.edits).toBe("Layer 3 is fixed.");
  });
  test("the recommended strength is a mark that sets it, in the panel's unit", () => {
    const { el, model } = mount(steering, { ...base, unit: "raw", conditions: [gate] });
    const tick = named(el, "Set feature 3 to its recommended strength");
    expect([tick.title, tick.style.getPropertyValue("--at")]).toEqual([
      "recommended: 0.6 \u00d7 residual norm",
      "0.6000",
    ]);
    const slider = named<HTMLInputElement>(el, "Strength of feature 3");
    expect(document.getElementById(slider.getAttribute("aria-describedby") ?? "")?.textContent).toBe(tick.title);
    tick.click();
    expect((model.get("conditions") as Condition[])[0]?.features[0]?.strength).toBe(84);
    model.set("residual_norm", 0);
    expect([tick.hidden, slider.hasAttribute("aria-describedby")]).toEqual([true, false]);
  });
  test("a change of unit is left to Python", () => {
    const { el, model } = mount(steering, base);
    type(labelled<HTMLSelectElement>(el, "Strengths in"), "max");
    expect([model.get("unit"), model.get("conditions")]).toEqual(["max", base.conditions]);
    model.set("conditions", [plain, { ...gate, features: [{ feature: 3, strength: 2.8 }] }]);
    expect(named<HTMLInputElement>(el, "Strength as a number").value).toBe("2.8");
  });
  test("run, stop and sweep are messages; buttons follow the state", () => {
    const { el, model } = mount(steering, base);
    const [start, stop, sweep] = [named(el, "Run"), named(el, "Stop"), named(el, "Sweep feature 3")];
    expect([start.disabled, stop.disabled, sweep.title]).toEqual([
      false,
      true,
      "Write with feature 3 at 0.2, 0.4 \u00d7 residual norm, beside the unsteered text",
    ]);
    sweep.click();
    start.click();
    model.set("running", true);
    expect([start.disabled, stop.disabled, sweep.disabled]).toEqual([true, false, true]);
    stop.click();
    expect(model.sent).toEqual([{ kind: "sweep", feature: 3, condition: 1 }, { kind: "run" }, { kind: "stop" }]);
    one(el, "textarea").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true }));
    expect(model.sent.length).toBe(3);
  });
  test("errors are shown in words; the template's box only where there is one", () => {
    const { el, model } = mount(steering, { ...base, has_chat: false });
    expect([one(el, "[role=alert]").hidden, labelled(el, "Chat template").parentElement?.hidden]).toEqual([true, true]);
    model.set("error", "the prompt is <b>empty</b>");
    expect([one(el, "[role=alert]").textContent, one(el, "[role=alert]").hidden]).toEqual([
      "the prompt is <b>empty</b>",
      false,
    ]);
  });
  test("every control has a name and keeps JupyterLab's shortcuts away", () => {
    const { el } = mount(steering, finished());
    const controls = all(el, "button, input, select, textarea, [tabindex='0']");
    expect(controls.filter((c) => !c.hasAttribute("data-lm-suppress-shortcuts"))).toEqual([]);
    const unnamed = controls.filter(
      (c) =>
        !c.getAttribute("aria-label") &&
        !c.textContent?.trim() &&
        !c.closest("label") &&
        !(c.id && el.querySelector(`label[for='${c.id}']`)),
    );
    expect(unnamed).toEqual([]);
  });
});

describe("SteeringPanel: replies", () => {
  test("nothing yet, in words", () => {
    const { el } = mount(steering, base);
    expect([one(el, ".sk-empty").textContent, one(el, ".sk-colour").hidden, one(el, ".sk-past").hidden]).toEqual([
      "Press Run to write a reply under each condition.",
      true,
      true,
    ]);
  });
  test("a column per condition says what it does and how it went", () => {
    const concept = [reply(TOKENS, { present: false }), reply(["We"], { present: true, end: "length" })];
    const { el } = mount(steering, finished({ concept: "a bridge", exchanges: [{ user: "Hi", replies: concept }] }));
    const heads = all(el, ".sk-column header");
    expect(all(el, ".sk-column").map((c) => c.getAttribute("aria-label"))).toEqual(["unsteered", "gate"]);
    expect(all(heads[0] as Element, ".sk-deeds span, .sk-figures span").map((s) => s.textContent)).toEqual([
      "as it is",
      "nll 1.91",
      "repeated 19 %",
      "3 tokens",
      "does not mention a bridge",
    ]);
    expect(all(heads[1] as Element, ".sk-deeds span, .sk-figures span").map((s) => s.textContent)).toEqual([
      "feature 3 at 0.4 \u00d7 residual norm",
      "nll 1.91",
      "repeated 19 %",
      "1 token, cut off",
      "mentions a bridge",
    ]);
    expect(all(el, ".sk-user").every((u) => u.hidden)).toBe(true);
  });
  test("tokens are text; the user's words only where there are turns", () => {
    const { el } = mount(steering, finished({ exchanges: [turn(), turn(HOSTILE)] }));
    expect(el.querySelector("img")).toBeNull();
    expect(all(el, ".sk-said").map((s) => s.textContent)).toEqual([
      `I am${HOSTILE}`,
      `I am${HOSTILE}`,
      "We\ngo",
      "We\ngo",
    ]);
    expect(all(el, ".sk-user").map((u) => u.textContent)).toEqual(["Hi", HOSTILE, "Hi", HOSTILE]);
    expect(all(el, ".sk-said")[1]?.getAttribute("aria-label")).toBe("Reply 2 of unsteered");
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
      all(el, ".sk-said").map((s) => s.textContent),
      all(el, ".sk-writing").length,
    ]).toEqual([true, ["a b", "c"], 2]);
    model.set("exchanges", [{ user: "Hi", replies: [reply(["a", " b", "\u00fc"]), growing("c")] }]);
    expect([spans(el, 0)[0] === first, spans(el, 0)[2]?.textContent, all(el, ".sk-writing").length]).toEqual([
      true,
      "\u00fc",
      1,
    ]);
    model.set("exchanges", [{ user: "Hi", replies: [growing(), growing()] }]);
    expect(all(el, ".sk-said .sk-token").length).toBe(0);
  });
  test("the end is followed only by who is there", () => {
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
  test("an empty reply is said; conditions that do not fit the replies yet are shown without", () => {
    const { el, model } = mount(
      steering,
      finished({ exchanges: [{ user: "Hi", replies: [reply([]), reply(["a"])] }] }),
    );
    expect(all(el, ".sk-none").map((n) => n.hidden)).toEqual([false, true]);
    model.set("running", true);
    model.set("ran", [plain, gate, { ...gate, name: "third" }]);
    expect([all(el, ".sk-column").length, all(el, ".sk-said").length]).toEqual([3, 0]);
  });
  test("colours: by surprise, by a feature, or none", () => {
    const { el, model } = mount(steering, finished({ colour_by: "unlikely" }));
    const heat = () => spans(el, 0).map((s) => s.style.getPropertyValue("--a"));
    expect([heat(), one(el, ".sk-scale").getAttribute("aria-label")]).toEqual([
      ["0.250", "0.250", "0.250"],
      "Colour scale from 0 to 8 nats, unsteered model",
    ]);
    named(el, "a feature").click();
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
    named(el, "nothing").click();
    expect(heat()).toEqual(["", "", ""]);
  });
  test("a closed view no longer listens", () => {
    const { el, model, controller } = mount(steering, finished());
    controller.abort();
    model.set("exchanges", [{ user: "", replies: [reply(["new"]), reply(["new"])] }]);
    expect(all(el, ".sk-said")[0]?.textContent).toBe(`I am${HOSTILE}`);
  });
});

describe("SteeringPanel: the card by a token", () => {
  const over = (target: Element | undefined) => target?.dispatchEvent(new Event("pointerover", { bubbles: true }));
  test("shows how likely, candidates and features, and goes when the pointer does", () => {
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
  test("a click pins it, a chip colours, Escape lets it go", () => {
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
    const [card, text] = [one(el, ".sk-card"), all(el, ".sk-said")[0] as HTMLElement];
    text.focus();
    press(text, "ArrowRight");
    press(text, "ArrowRight");
    expect([one(el, ".sk-at").textContent, one(el, ".sk-spoken[role=status]").textContent]).toEqual([
      " am",
      "am, token 1: 2.00 nats, 14 %",
    ]);
    press(text, "End");
    press(text, "ArrowRight");
    expect(one(el, ".sk-at")).toBe(spans(el, 0)[2]);
    press(text, "Home");
    press(text, "Enter");
    expect(document.activeElement).toBe(named(card, "Close"));
    press(document.activeElement as Element, "Escape");
    expect([document.activeElement === text, card.hidden]).toEqual([true, true]);
  });
  test("says where there is no more", () => {
    const { el, model } = mount(steering, finished({ runs: [runOf([turn()], { prompt: "old" }), runOf([turn()])] }));
    all(el, ".sk-past li button")[0]?.click();
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

describe("SteeringPanel: turns and runs", () => {
  afterEach(() => vi.restoreAllMocks());
  test("the next turn is for conversations that are finished", () => {
    const { el, model } = mount(steering, base);
    const bar = one(el, ".sk-reply");
    expect(bar.hidden).toBe(true);
    model.set("running", true);
    model.set("ran", [plain, gate]);
    model.set("exchanges", [turn()]);
    expect(bar.hidden).toBe(true);
    model.set("runs", [runOf([turn()])]);
    model.set("running", false);
    expect(bar.hidden).toBe(false);
    const message = named<HTMLInputElement>(el, "Reply to all");
    message.value = "  ";
    named(el, "Send").click();
    message.value = "And then?";
    press(message, "Enter");
    named(el, "Redo last turn").click();
    expect([model.sent, message.value]).toEqual([[{ kind: "reply", message: "And then?" }, { kind: "redo" }], ""]);
    model.set("chat", false);
    expect(bar.hidden).toBe(true);
  });
  test("what is typed while a turn is written waits", () => {
    const { el, model } = mount(
      steering,
      finished({ running: true, exchanges: [turn(), { user: "x", replies: [growing("a"), growing("b")] }] }),
    );
    const message = named<HTMLInputElement>(el, "Reply to all");
    message.value = "later";
    press(message, "Enter");
    expect([one(el, ".sk-reply").hidden, named(el, "Send").disabled, model.sent, message.value]).toEqual([
      false,
      true,
      [],
      "later",
    ]);
  });
  test("earlier runs are looked at and left again", () => {
    const old = runOf([{ user: "Old?", replies: [reply(["old"])] }], { prompt: "Old?", conditions: [plain], seed: 7 });
    const { el, model } = mount(steering, finished({ runs: [old, runOf([turn()])] }));
    const chips = all(el, ".sk-past li button");
    expect(chips.map((c) => [c.textContent, c.getAttribute("aria-pressed")])).toEqual([
      ["Old? \u00b7 1 condition \u00b7 seed 7", "false"],
      ["Hi \u00b7 2 conditions \u00b7 seed 0", "true"],
    ]);
    chips[0]?.click();
    expect([
      all(el, ".sk-said").map((s) => s.textContent),
      one(el, ".sk-reply").hidden,
      chips[0]?.getAttribute("aria-pressed"),
    ]).toEqual([["old"], true, "true"]);
    expect(one(el, ".sk-note").textContent).toContain("An earlier run: Old?");
    named(el, "Back to the latest").click();
    expect([all(el, ".sk-said").length, one(el, ".sk-note").hidden, document.activeElement === chips[1]]).toEqual([
      2,
      true,
      true,
    ]);
    chips[0]?.click();
    model.set("running", true);
    expect(
      all(el, ".sk-past li button")
        .map((c) => [c.textContent, c.getAttribute("aria-pressed")])
        .at(-1),
    ).toEqual(["being written", "true"]);
  });
  test("runs are saved as a file", async () => {
    const made: Blob[] = [];
    vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => `blob:${made.push(blob as Blob)}`);
    const clicked: string[] = [];
    vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
      clicked.push(this.download);
    });
    const { el, model } = mount(steering, finished({ live: false }));
    named(el, "Export").click();
    expect(clicked).toEqual(["steering-runs.json"]);
    expect(JSON.parse(await (made[0] as Blob).text())).toEqual(model.get("runs"));
  });
  test("a page without Python keeps the results and puts the form away", () => {
    const { el, model } = mount(
      steering,
      finished({
        live: false,
        colour_by: "unlikely",
        runs: [runOf([turn()], { prompt: "old" }), runOf([turn()], { prompt: HOSTILE })],
      }),
    );
    expect([
      one(el, ".sk-form").hidden,
      one<HTMLTextAreaElement>(el, "textarea").disabled,
      one(el, ".sk-reply").hidden,
    ]).toEqual([true, true, true]);
    expect(one(el, ".sk-note").textContent).toContain(
      "The replies below were written in a notebook, where the controls work.",
    );
    expect(one(el, ".sk-note q").textContent).toBe(HOSTILE);
    named(el, "a feature").click();
    expect([model.get("colour_by"), spans(el, 0)[0]?.style.getPropertyValue("--a")]).toEqual(["feature", "1.000"]);
    const { el: empty } = mount(steering, { ...base, live: false });
    expect([one(empty, ".sk-empty").textContent, one(empty, ".sk-note").hidden]).toEqual(["Nothing was run.", true]);
  });
});
