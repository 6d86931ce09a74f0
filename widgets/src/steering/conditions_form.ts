// The conditions in the form: for each its name, its features with their strengths, an instruction, and edits.

import "./conditions.css";
import { button, h, NO_SHORTCUTS } from "../shared/dom";
import { setTraits } from "../shared/model";
import { isUnsteered, nextCondition, nextFeature } from "./condition";
import { type ConditionActions, type FeatureRow, featureRow } from "./feature_row";
import type { FormInputs } from "./form_inputs";
import type { Condition, FeatureStrength, Model, SteeringState } from "./state";
import { sliderRangeIncluding } from "./strengths";

export interface ConditionsForm {
  element: HTMLElement;
  draw(): void;
}

export function conditionsForm(model: Model, inputs: FormInputs, sweep: ConditionActions["sweep"]): ConditionsForm {
  const list = h("div", { class: "sk-conditions" });
  const views: ConditionView[] = [];
  const set = (conditions: Condition[]) => setTraits<SteeringState>(model, { conditions });
  const add = button("+ condition", "sk-subtle sk-add", () => {
    set([...model.get("conditions"), nextCondition(model.get("conditions"))]);
    focusAndSelect(views.at(-1)?.name);
  });
  const actions: ConditionActions = {
    sweep,
    edit: (index, change) => set(model.get("conditions").map((c, i) => (i === index ? change(c) : c))),
    discard: () => inputs.discard(list), // rows stand for other features once one is gone
    remove(index) {
      actions.discard();
      for (const view of views) view.instructionOpen = false;
      set(model.get("conditions").filter((_, i) => i !== index));
      add.focus({ preventScroll: true });
    },
  };

  const draw = () => {
    const conditions = model.get("conditions");
    while (views.length > conditions.length) views.pop()?.element.remove();
    while (views.length < conditions.length) {
      const view = conditionView(model, inputs, views.length, actions);
      views.push(view);
      list.append(view.element);
    }
    for (const [i, view] of views.entries()) view.draw(conditions[i] as Condition, conditions.length > 1);
  };
  return { element: h("div", { class: "sk-conditions-section" }, list, add), draw };
}

/** To an input that was just made, its suggestion selected so that typing replaces it. */
function focusAndSelect(input: HTMLInputElement | undefined): void {
  input?.focus();
  input?.select();
}

interface ConditionView {
  element: HTMLElement;
  name: HTMLInputElement;
  instructionOpen: boolean; // the input is shown though it is empty
  draw(condition: Condition, removable: boolean): void;
}

function textInput(attributes: Record<string, string>): HTMLInputElement {
  return h("input", { type: "text", autocomplete: "off", ...attributes, ...NO_SHORTCUTS });
}

function conditionView(model: Model, inputs: FormInputs, index: number, actions: ConditionActions): ConditionView {
  const current = () => model.get("conditions")[index] as Condition;
  const edit = (change: (condition: Condition) => Condition) => actions.edit(index, change);
  const redraw = () => view.draw(current(), model.get("conditions").length > 1);

  const name = textInput({ class: "sk-title", "aria-label": "Name of the condition", spellcheck: "false" });
  const setName = (value: string) => edit((c) => ({ ...c, name: value.trim() }));
  inputs.bindText(name, setName, (value) => value.trim() !== "");
  name.addEventListener("blur", () => {
    inputs.stopEditing(name); // an empty name is not kept
    inputs.setValue(name, current()?.name ?? "");
  });
  const unsteered = h("span", { class: "sk-muted sk-unsteered" }, "the model as it is");

  const instruction = textInput({ "aria-label": "Instruction", placeholder: "A sentence appended to the prompt" });
  inputs.bindText(instruction, (value) => edit((c) => ({ ...c, instruction: value })));
  const removeInstruction = button("\u00d7", "sk-subtle sk-icon", () => {
    view.instructionOpen = false;
    inputs.stopEditing(instruction);
    if (current().instruction === "") redraw();
    else edit((c) => ({ ...c, instruction: "" }));
    addInstruction.focus({ preventScroll: true });
  });
  removeInstruction.setAttribute("aria-label", "Remove the instruction");
  const instructionLabel = h("span", { class: "sk-muted" }, "Instruction");
  const instructionRow = h("div", { class: "sk-instruction" }, instructionLabel, instruction, removeInstruction);
  const addInstruction = button("+ instruction", "sk-subtle", () => {
    view.instructionOpen = true;
    redraw();
    instruction.focus();
  });

  const rows: FeatureRow[] = [];
  const list = h("div", { class: "sk-rows" });
  const addFeature = button("+ feature", "sk-subtle", () => {
    const feature = nextFeature(model.get("conditions"), index);
    const info = model.get("about")[String(feature)];
    const scale = { max: info?.max ?? 0, residual: info?.residual ?? model.get("residual_norm") };
    const start = sliderRangeIncluding(model.get("unit"), scale, 0, null).start;
    const strength = current().features.at(-1)?.strength ?? start;
    edit((c) => ({ ...c, features: [...c.features, { feature, strength }] }));
    focusAndSelect(rows.at(-1)?.number);
  });
  const afterRemoval = () => addFeature.focus({ preventScroll: true });
  const edits = h("p", { class: "sk-edits sk-muted" });
  const remove = button("\u00d7", "sk-subtle sk-icon", () => actions.remove(index));
  remove.title = "Remove this condition";
  const buttons = h("div", { class: "sk-actions" }, addFeature, addInstruction, remove);
  const head = h("div", { class: "sk-condition-head" }, name, unsteered, buttons);
  const element = h("div", { class: "sk-condition", role: "group" }, head, list, instructionRow, edits);

  const view: ConditionView = {
    element,
    name,
    instructionOpen: false,
    draw(condition, removable) {
      const open = view.instructionOpen || condition.instruction !== "";
      element.setAttribute("aria-label", condition.name);
      element.classList.toggle("sk-steered", !isUnsteered(condition));
      inputs.setValue(name, condition.name);
      name.size = Math.min(40, Math.max(6, condition.name.length + 1)); // for browsers without field-sizing
      inputs.setValue(instruction, condition.instruction);
      instructionRow.hidden = !open;
      addInstruction.hidden = open;
      unsteered.hidden = open || !isUnsteered(condition);
      edits.textContent = condition.edits;
      edits.hidden = condition.edits === "";
      remove.hidden = !removable;
      remove.setAttribute("aria-label", `Remove ${condition.name}`);
      while (rows.length > condition.features.length) rows.pop()?.element.remove();
      while (rows.length < condition.features.length) {
        const row = featureRow(model, inputs, [index, rows.length], actions, afterRemoval);
        rows.push(row);
        list.append(row.element);
      }
      for (const [i, row] of rows.entries()) row.draw(condition.features[i] as FeatureStrength);
    },
  };
  return view;
}
