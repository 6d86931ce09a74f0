// The form: the prompt, the conditions, how replies are sampled, and buttons that start and stop a run.

import { button, field, h, NO_SHORTCUTS, uniqueId } from "../shared/dom";
import { setTraits } from "../shared/model";
import { inputNumber } from "../shared/numbers";
import { conditionsForm } from "./conditions_form";
import { POSITION_NAMES } from "./descriptions";
import type { FormInputs } from "./form_inputs";
import type { Model, SteeringState } from "./state";
import { UNIT_NAMES } from "./strengths";

export interface FormView {
  element: HTMLElement;
  error: HTMLElement;
  draw(): void;
  drawConditions(): void;
  drawProgress(): void;
}

export function formView(model: Model, inputs: FormInputs, send: (message: object) => void): FormView {
  const set = (values: Partial<SteeringState>) => setTraits<SteeringState>(model, values);
  const prompt = h("textarea", { rows: 2, spellcheck: "false", id: uniqueId("prompt"), ...NO_SHORTCUTS });
  const promptLabel = h("label", { class: "sk-field-name", for: prompt.id }, "Prompt");
  inputs.bindText(prompt, (value) => set({ prompt: value }));
  const chat = h("input", { type: "checkbox", ...NO_SHORTCUTS });
  chat.addEventListener("change", () => set({ chat: chat.checked }));
  const chatField = h("label", { class: "sk-field" }, chat, "Chat template");
  const conditions = conditionsForm(model, inputs, (feature, condition) => {
    if (!model.get("running") && model.get("live")) send({ kind: "sweep", feature, condition });
  });

  const options = (names: Record<string, string>, values = Object.keys(names)) =>
    values.map((value) => h("option", { value }, names[value] ?? value));
  const unit = h("select", { ...NO_SHORTCUTS });
  unit.addEventListener("change", () => set({ unit: unit.value }));
  const positions = h("select", { ...NO_SHORTCUTS }, ...options(POSITION_NAMES));
  positions.addEventListener("change", () => set({ positions: positions.value }));
  const numberInput = (
    name: "max_new_tokens" | "temperature" | "seed",
    attributes: Record<string, number>,
    isValid: (value: number) => boolean,
  ) => {
    const input = h("input", { type: "number", ...attributes, ...NO_SHORTCUTS });
    return inputs.bindNumber(input, isValid, (value) => set({ [name]: value }));
  };
  const nTokens = numberInput("max_new_tokens", { min: 1, step: 1 }, (v) => Number.isInteger(v) && v >= 1);
  const temperature = numberInput("temperature", { min: 0, step: 0.1 }, (v) => v >= 0);
  const seed = numberInput("seed", { step: 1 }, Number.isInteger);

  const start = () => {
    if (model.get("running") || !model.get("live")) return;
    const invalid = inputs.commit(element);
    if (!invalid) {
      send({ kind: "run" });
      return;
    }
    invalid.focus();
    status.textContent = "The marked value is not valid.";
  };
  const run = button("Run", "sk-button sk-primary", start);
  run.title = "Ctrl+Enter";
  const stop = button("Stop", "sk-button", () => send({ kind: "stop" }));
  const progress = h("progress", { "aria-label": "Tokens generated" });
  const status = h("output", { class: "sk-muted sk-num sk-status", "aria-live": "polite" });
  const error = h("p", { class: "sk-error", role: "alert" });
  const settings = h(
    "div",
    { class: "sk-settings" },
    field("Strengths in", unit),
    field("Applied to", positions),
    field("New tokens", nTokens),
    field("Temperature", temperature),
    field("Seed", seed),
  );
  const element = h(
    "div",
    { class: "sk-form" },
    h("div", { class: "sk-prompt" }, h("div", { class: "sk-prompt-head" }, promptLabel, chatField), prompt),
    conditions.element,
    settings,
    h("div", { class: "sk-run" }, run, stop, progress, status),
  );
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    }
    if (event.key !== "Escape") event.stopPropagation();
  });

  const draw = () => {
    inputs.setValue(prompt, model.get("prompt"));
    prompt.placeholder = model.get("chat") ? "Message to the model" : "Text for the model to continue";
    conditions.draw();
    const units = model.get("units");
    const current = [...unit.options].map((option) => option.value);
    if (current.join() !== units.join()) unit.replaceChildren(...options(UNIT_NAMES, units));
    inputs.setValue(unit, model.get("unit"));
    inputs.setValue(positions, model.get("positions"));
    inputs.setValue(nTokens, String(model.get("max_new_tokens")));
    inputs.setValue(temperature, inputNumber(model.get("temperature")));
    inputs.setValue(seed, String(model.get("seed")));
    chat.checked = model.get("chat");
    chatField.hidden = !model.get("has_chat");
  };
  const drawProgress = () => {
    const [running, live] = [model.get("running"), model.get("live")];
    run.disabled = running;
    stop.disabled = !running;
    progress.max = Math.max(1, model.get("total"));
    progress.value = model.get("done");
    progress.hidden = !running;
    status.textContent = model.get("status");
    error.textContent = model.get("error");
    error.hidden = model.get("error") === "";
    element.hidden = !live;
    if (live) return;
    const controls = element.querySelectorAll<HTMLInputElement>("input, textarea, select, button");
    for (const control of controls) control.disabled = true;
  };
  return { element, error, draw, drawConditions: conditions.draw, drawProgress };
}
