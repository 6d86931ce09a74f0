import { describe, expect, test } from "vitest";
import type { Condition } from "../src/steering/state";
import steering from "../src/steering_panel";
import { base, conditionBox, finished, gate, labelled, named, plain, type } from "./steering_fixtures";
import { all, mount, one } from "./support";

describe("SteeringPanel: the form", () => {
  test("a condition's features are edited as a new list, and only that condition", () => {
    const { el, model } = mount(steering, base);
    const row = conditionBox(el, 1);
    type(named<HTMLInputElement>(row, "Strength of feature 3"), "0.75", "input");
    expect(model.get("conditions")).toEqual([plain, { ...gate, features: [{ feature: 3, strength: 0.75 }] }]);
    expect(base.conditions[1]?.features[0]?.strength).toBe(0.4);
    expect(named<HTMLInputElement>(row, "Strength as a number").value).toBe("0.75");
    type(named<HTMLInputElement>(row, "Strength as a number"), "-0.3");
    expect(named<HTMLInputElement>(row, "Strength of feature 3").min).toBe("-1");
    expect(one(row, ".sk-other-units").textContent).toBe("\u2248 \u221242 raw \u00b7 \u22122.1 \u00d7 max");
    type(named<HTMLInputElement>(row, "Feature"), "7");
    expect((model.get("conditions") as Condition[])[1]?.features).toEqual([{ feature: 7, strength: -0.3 }]);
  });
  test("an invalid value is marked, kept and prevents the run", () => {
    const { el, model } = mount(steering, base);
    const number = named<HTMLInputElement>(conditionBox(el, 1), "Feature");
    type(number, "16");
    model.set("prompt", "other");
    expect([number.value, number.getAttribute("aria-invalid"), model.get("conditions")]).toEqual([
      "16",
      "true",
      base.conditions,
    ]);
    named(el, "Run").click();
    expect([model.sent, one(el, ".sk-status").textContent]).toEqual([[], "The marked value is not valid."]);
    type(number, "5");
    named(el, "Run").click();
    expect([model.sent, number.hasAttribute("aria-invalid")]).toEqual([[{ kind: "run" }], false]);
  });
  test("a feature stands once in a condition", () => {
    const { el, model } = mount(steering, base);
    named(conditionBox(el, 1), "+ feature").click();
    expect((model.get("conditions") as Condition[])[1]?.features).toEqual([
      { feature: 3, strength: 0.4 },
      { feature: 0, strength: 0.4 },
    ]);
    const second = all<HTMLInputElement>(conditionBox(el, 1), "[aria-label='Feature']")[1] as HTMLInputElement;
    expect(document.activeElement).toBe(second);
    type(second, "3");
    expect(second.getAttribute("aria-invalid")).toBe("true");
    named(conditionBox(el, 1), "Remove feature 3").click();
    expect((model.get("conditions") as Condition[])[1]?.features).toEqual([{ feature: 0, strength: 0.4 }]);
    expect(named<HTMLInputElement>(conditionBox(el, 1), "Feature").value).toBe("0");
  });
  test("a number that was typed but not confirmed is used when a run is started by keyboard", () => {
    const { el, model } = mount(steering, base);
    const number = named<HTMLInputElement>(conditionBox(el, 1), "Strength as a number");
    type(number, "0.55", "input");
    number.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true, cancelable: true }),
    );
    expect([(model.get("conditions") as Condition[])[1]?.features[0]?.strength, model.sent]).toEqual([
      0.55,
      [{ kind: "run" }],
    ]);
  });
  test("text being edited is not overwritten by Python", () => {
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
    const title = named<HTMLInputElement>(conditionBox(el, 2), "Name of the condition");
    expect(document.activeElement).toBe(title);
    type(title, "", "input");
    expect((model.get("conditions") as Condition[])[2]?.name).toBe("condition 3");
    title.dispatchEvent(new Event("blur"));
    expect(title.value).toBe("condition 3");
    type(title, "twice", "input");
    expect([conditionBox(el, 2).getAttribute("aria-label"), (model.get("conditions") as Condition[])[2]?.name]).toEqual(
      ["twice", "twice"],
    );
    title.dispatchEvent(new Event("blur"));
    named(el, "Remove unsteered").click();
    expect((model.get("conditions") as Condition[]).map((c) => c.name)).toEqual(["gate", "twice"]);
    named(el, "Remove gate").click();
    expect([all(el, ".sk-condition").length, named(el, "Remove twice").hidden]).toEqual([1, true]);
  });
  test("an instruction opens, is written and removed; edits stay as they came", () => {
    const { el, model } = mount(steering, { ...base, conditions: [plain, { ...gate, edits: "Layer 3 is fixed." }] });
    expect(one(conditionBox(el, 0), ".sk-instruction").hidden).toBe(true);
    named(conditionBox(el, 0), "+ instruction").click();
    type(named<HTMLInputElement>(conditionBox(el, 0), "Instruction"), "Be kind.", "input");
    expect((model.get("conditions") as Condition[])[0]).toEqual({ ...plain, instruction: "Be kind." });
    named(conditionBox(el, 0), "Remove the instruction").click();
    expect([(model.get("conditions") as Condition[])[0], one(conditionBox(el, 0), ".sk-instruction").hidden]).toEqual([
      plain,
      true,
    ]);
    expect(one(conditionBox(el, 1), ".sk-edits").textContent).toBe("Layer 3 is fixed.");
    type(named<HTMLInputElement>(conditionBox(el, 1), "Strength as a number"), "1");
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
  test("a feature whose decoder row is long has its own residual norm", () => {
    const about = { "3": { name: " bridge gate", max: 20, recommended: 0.6, residual: 70 } };
    const { el, model } = mount(steering, { ...base, unit: "raw", conditions: [gate], about });
    named(el, "Set feature 3 to its recommended strength").click();
    expect((model.get("conditions") as Condition[])[0]?.features[0]?.strength).toBe(42);
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
      "Generate with feature 3 at 0.2, 0.4 \u00d7 residual norm, beside the unsteered text",
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
  test("errors are shown; the chat template's checkbox only where there is a template", () => {
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
