// The line above the replies that chooses what colours them.

import "./colour_controls.css";
import { colourScale } from "../shared/charts/bars";
import { button, field, h, NO_SHORTCUTS } from "../shared/dom";
import { featureChip } from "../shared/feature_chip";
import { setTraits } from "../shared/model";
import { formatCount, formatNumber } from "../shared/numbers";
import { nameText } from "../shared/tokens";
import type { Colouring } from "./colouring";
import { featuresOf } from "./condition";
import type { FormInputs } from "./form_inputs";
import type { DisplayedRun } from "./replies";
import type { Model, SteeringState } from "./state";

export interface ColourControls {
  element: HTMLElement;
  draw(run: DisplayedRun, colouring: Colouring): void;
}

const CHOICES: [string, string, string][] = [
  ["none", "none", ""],
  ["unlikely", "nll", "negative log-likelihood of each token under the unsteered model"],
  ["feature", "feature", "activation of a feature on each token"],
];

export function colourControls(model: Model, inputs: FormInputs): ColourControls {
  const set = (values: Partial<SteeringState>) => setTraits<SteeringState>(model, values);
  let features: number[] = []; // those of the conditions that are shown
  const choices = CHOICES.map(([value, text, title]) => {
    const element = button(text, "", () => {
      const untouched = model.get("colour_feature") === 0 && !features.includes(0);
      const first = value === "feature" && untouched ? features[0] : undefined;
      set({ ...(first === undefined ? {} : { colour_feature: first }), colour_by: value });
    });
    element.title = title;
    element.dataset.by = value;
    return element;
  });
  const group = h("span", { class: "sk-choice", role: "group", "aria-label": "Colour by" }, ...choices);
  const scale = colourScale();
  const note = h("span", { class: "sk-muted sk-colour-note" });
  const colourBy = (feature: number) => set({ colour_feature: feature, colour_by: "feature" });
  const input = h("input", { type: "number", min: 0, step: 1, ...NO_SHORTCUTS });
  inputs.bindNumber(input, (v) => Number.isInteger(v) && v >= 0 && v < model.get("n_features"), colourBy);
  input.addEventListener("keydown", (event) => event.stopPropagation());
  const inputField = field("Feature", input);
  const name = h("span", { class: "sk-feature-name" });
  const chips = h("span", { class: "sk-chips", role: "group", "aria-label": "Features of these conditions" });
  const label = h("span", { class: "sk-field-name" }, "Colour by");
  const element = h("div", { class: "sk-colour" }, label, group, scale.element, note, inputField, name, chips);
  let drawnChips = "";

  const draw = (run: DisplayedRun, { max, note: reason }: Colouring) => {
    const [by, feature, limit] = [model.get("colour_by"), model.get("colour_feature"), model.get("n_features")];
    const nameOf = (f: number) => model.get("about")[String(f)]?.name ?? "";
    for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.dataset.by === by));
    inputs.setValue(input, String(feature));
    input.max = String(limit - 1);
    input.title = `0 to ${formatCount(limit - 1)}`;
    input.disabled = false;
    features = featuresOf(run.conditions);
    inputField.hidden = chips.hidden = by !== "feature" || run.details === null;
    name.textContent = features.includes(feature) ? "" : nameText(nameOf(feature));
    name.hidden = inputField.hidden || name.textContent === "";
    const key = JSON.stringify([features, features.map(nameOf)]);
    if (key !== drawnChips) {
      drawnChips = key;
      chips.replaceChildren(...features.map((f) => colourChip(model, f, colourBy)));
    }
    for (const chip of chips.querySelectorAll<HTMLElement>("button")) {
      chip.setAttribute("aria-pressed", String(Number(chip.dataset.feature) === feature));
    }
    scale.element.hidden = by === "none" || reason !== "";
    scale.draw(formatNumber(max), by === "unlikely" ? "nats, unsteered model" : "activation");
    note.textContent = reason;
    note.hidden = reason === "";
  };
  return { element, draw };
}

/** A feature as a button that colours the replies by it. */
export function colourChip(
  model: Model,
  feature: number,
  colourBy: (feature: number) => void,
  activation?: { value: number; max: number },
): HTMLButtonElement {
  const name = model.get("about")[String(feature)]?.name ?? "";
  const words = { measure: "activation", action: "colour the replies by it" };
  const shown = activation && { value: formatNumber(activation.value), fraction: activation.value / activation.max };
  return featureChip(feature, { name: nameText(name), ...words, ...shown }, () => colourBy(feature));
}
