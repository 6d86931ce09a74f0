// What is asked for: the prompt, how it is sampled, and the buttons that start and stop the writing.

import { button, field, h, QUIET, uid } from "../shared/dom";
import { put } from "../shared/model";
import type { Boxes } from "./boxes";
import type { ConditionsView } from "./conditions";
import type { Model, SteeringState } from "./state";
import { POSITIONS, UNITS } from "./units";

export interface FormView {
  element: HTMLElement;
  error: HTMLElement;
  draw(): void;
  drawRun(): void;
}

export function formView(
  model: Model,
  boxes: Boxes,
  conditions: ConditionsView,
  send: (message: object) => void,
): FormView {
  const set = (values: Partial<SteeringState>) => put<SteeringState>(model, values);
  const prompt = h("textarea", { rows: 2, spellcheck: "false", id: uid("prompt"), ...QUIET });
  const label = h("label", { class: "sk-field-name", for: prompt.id }, "Prompt");
  boxes.text(prompt, (value) => set({ prompt: value }));
  const chat = h("input", { type: "checkbox", ...QUIET });
  chat.addEventListener("change", () => set({ chat: chat.checked }));
  const unit = h("select", { ...QUIET });
  unit.addEventListener("change", () => set({ unit: unit.value }));
  const positions = h(
    "select",
    { ...QUIET },
    ...Object.entries(POSITIONS).map(([value, words]) => h("option", { value }, words)),
  );
  positions.addEventListener("change", () => set({ positions: positions.value }));
  const numeric = (
    key: "max_new_tokens" | "temperature" | "seed",
    attributes: Record<string, number>,
    good: (value: number) => boolean,
  ) => boxes.number(h("input", { type: "number", ...attributes, ...QUIET }), good, (value) => set({ [key]: value }));
  const tokens = numeric("max_new_tokens", { min: 1, step: 1 }, (v) => Number.isInteger(v) && v >= 1);
  const temperature = numeric("temperature", { min: 0, step: 0.1 }, (v) => v >= 0);
  const seed = numeric("seed", { step: 1 }, Number.isInteger);
  const chatField = h("label", { class: "sk-field" }, chat, "Chat template");

  const start = () => {
    if (model.get("running") || !model.get("live")) return;
    const bad = boxes.settle(element);
    if (bad) {
      bad.focus();
      status.textContent = "The marked box holds something that cannot be used.";
    } else send({ kind: "run" });
  };
  const run = button("Run", "sk-button sk-primary", start);
  run.title = "Ctrl+Enter";
  const stop = button("Stop", "sk-button", () => send({ kind: "stop" }));
  const progress = h("progress", { "aria-label": "Tokens written" });
  const status = h("output", { class: "sk-soft sk-num sk-status", "aria-live": "polite" });
  const error = h("p", { class: "sk-error", role: "alert" });
  const element = h(
    "div",
    { class: "sk-form" },
    h("div", { class: "sk-prompt" }, h("div", { class: "sk-prompt-head" }, label, chatField), prompt),
    conditions.element,
    h(
      "div",
      { class: "sk-settings" },
      field("Strengths in", unit),
      field("Applied to", positions),
      field("New tokens", tokens),
      field("Temperature", temperature),
      field("Seed", seed),
    ),
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
    boxes.fill(prompt, model.get("prompt"));
    prompt.placeholder = model.get("chat")
      ? "What should the model be asked?"
      : "What text should the model go on with?";
    conditions.draw();
    const units = model.get("units");
    if ([...unit.options].map((o) => o.value).join() !== units.join())
      unit.replaceChildren(...units.map((value) => h("option", { value }, UNITS[value] ?? value)));
    boxes.fill(unit, model.get("unit"));
    boxes.fill(positions, model.get("positions"));
    boxes.fill(tokens, String(model.get("max_new_tokens")));
    boxes.fill(temperature, String(model.get("temperature")));
    boxes.fill(seed, String(model.get("seed")));
    chat.checked = model.get("chat");
    chatField.hidden = !model.get("has_chat");
  };
  const drawRun = () => {
    const running = model.get("running");
    run.disabled = running;
    stop.disabled = !running;
    progress.max = Math.max(1, model.get("total"));
    progress.value = model.get("done");
    progress.hidden = !running;
    status.textContent = model.get("status");
    error.textContent = model.get("error");
    error.hidden = model.get("error") === "";
    element.hidden = !model.get("live");
    if (!model.get("live"))
      for (const box of element.querySelectorAll<HTMLInputElement>("input, textarea, select, button"))
        box.disabled = true;
  };
  return { element, error, draw, drawRun };
}
