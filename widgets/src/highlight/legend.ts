// What colours the text: the feature, the colour scale, and a field for another feature.

import { colourScale } from "../shared/charts/bars";
import { button, field, h, NO_SHORTCUTS, uniqueId } from "../shared/dom";
import { setTraits } from "../shared/model";
import { formatCount, formatNumber } from "../shared/numbers";
import type { HighlightState, Model } from "./state";

export interface Legend {
  element: HTMLElement;
  /** `top` is the largest activation in the text and `max` the one at full colour. */
  draw(top: number, max: number): void;
}

export function legend(model: Model): Legend {
  const title = h("span", { class: "sk-legend-title" });
  const note = h("span", { class: "sk-muted" });
  const scale = colourScale();
  const input = h("input", { type: "number", min: 0, step: 1, placeholder: "strongest", ...NO_SHORTCUTS });
  const problem = h("span", { class: "sk-muted", role: "status", id: uniqueId("problem") });
  input.setAttribute("aria-describedby", problem.id);
  const setFeature = (feature: number | null) => setTraits<HighlightState>(model, { feature });
  const reset = button("Show strongest", "sk-button", () => setFeature(null));
  input.addEventListener("change", () => {
    const limit = model.get("n_features");
    const value = input.value.trim() === "" ? null : Number(input.value);
    const inRange = value === null || (Number.isInteger(value) && value >= 0 && value < limit);
    const valid = !input.validity.badInput && inRange;
    input.setAttribute("aria-invalid", String(!valid));
    problem.textContent = valid ? "" : `Feature numbers run from 0 to ${formatCount(limit - 1)}.`;
    if (valid && value !== model.get("feature")) setFeature(value);
  });
  input.addEventListener("keydown", (event) => event.stopPropagation());
  const inputField = field("Colour by feature", input);
  const element = h("div", { class: "sk-legend" }, title, scale.element, note, inputField, reset, problem);

  const draw = (top: number, max: number) => {
    const feature = model.get("feature");
    const any = feature === null;
    title.textContent = any ? "Strongest activation of any feature" : `Activation of feature ${feature}`;
    const name = any ? undefined : model.get("names")[String(feature)];
    const silent = any ? "No feature fires on this text." : "It does not fire on this text.";
    note.textContent = [name ? `promotes ${name}` : "", top > 0 ? "" : silent].filter(Boolean).join(" \u00b7 ");
    note.hidden = note.textContent === "";
    scale.draw(formatNumber(max));
    scale.element.hidden = max <= 0;
    input.max = String(model.get("n_features") - 1);
    input.value = any ? "" : String(feature);
    input.setAttribute("aria-invalid", "false");
    problem.textContent = "";
    reset.hidden = any;
  };
  return { element, draw };
}
