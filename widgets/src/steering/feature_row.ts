// One feature of a condition: its number, a slider and a number for its strength, and a sweep over strengths.

import { button, h, NO_SHORTCUTS, uniqueId } from "../shared/dom";
import { formatCount, inputNumber } from "../shared/numbers";
import { nameText } from "../shared/tokens";
import type { FormInputs } from "./form_inputs";
import type { Condition, FeatureInfo, FeatureStrength, Model } from "./state";
import { convert, formatStrength, formatStrengths, fraction, inOtherUnits, sliderRangeIncluding } from "./strengths";

const UNKNOWN_FEATURE: FeatureInfo = { name: "", max: 0, recommended: null };

/** What the parts of a condition call. `edit` replaces condition `index`; `discard` drops edits not yet confirmed. */
export interface ConditionActions {
  edit(index: number, change: (condition: Condition) => Condition): void;
  remove(index: number): void;
  sweep(feature: number, condition: number): void;
  discard(): void;
}

export interface FeatureRow {
  element: HTMLElement;
  number: HTMLInputElement;
  draw(entry: FeatureStrength): void;
}

/** Row `i` of condition `index`; `afterRemoval` finds another place for the focus. */
export function featureRow(
  model: Model,
  inputs: FormInputs,
  [index, i]: [number, number],
  actions: ConditionActions,
  afterRemoval: () => void,
): FeatureRow {
  const entries = () => model.get("conditions")[index]?.features ?? [];
  const current = () => entries()[i] as FeatureStrength;
  const set = (change: Partial<FeatureStrength>) => {
    const changed = (f: FeatureStrength, j: number) => (j === i ? { ...f, ...change } : f);
    actions.edit(index, (c) => ({ ...c, features: c.features.map(changed) }));
  };

  const number = h("input", { type: "number", min: 0, step: 1, "aria-label": "Feature", ...NO_SHORTCUTS });
  const isFree = (v: number) => !entries().some((f, j) => j !== i && f.feature === v);
  const exists = (v: number) => Number.isInteger(v) && v >= 0 && v < model.get("n_features");
  inputs.bindNumber(
    number,
    (v) => exists(v) && isFree(v),
    (v) => set({ feature: v }),
  );
  const name = h("span", { class: "sk-feature-name" });
  const slider = h("input", { type: "range", ...NO_SHORTCUTS });
  slider.addEventListener("input", () => {
    inputs.startEditing(slider);
    set({ strength: Number(slider.value) });
  });
  slider.addEventListener("change", () => {
    inputs.stopEditing(slider);
    draw(current());
  });
  const tickText = h("span", { class: "sk-visually-hidden", id: uniqueId("tick") });
  const tick = button("", "sk-tick", () => {
    const { recommended } = infoOf(current());
    if (recommended !== null) set({ strength: Number(inputNumber(recommended)) });
  });
  tick.setAttribute("aria-describedby", tickText.id);
  const strength = h("input", { type: "number", step: "any", "aria-label": "Strength as a number", ...NO_SHORTCUTS });
  inputs.bindNumber(
    strength,
    () => true,
    (v) => set({ strength: v }),
  );
  const otherUnits = h("span", { class: "sk-other-units sk-muted sk-num" });
  const sweep = button("Sweep", "sk-button sk-sweep", () => actions.sweep(current().feature, index));
  const remove = button("\u00d7", "sk-subtle sk-icon", () => {
    actions.discard();
    actions.edit(index, (c) => ({ ...c, features: c.features.filter((_, j) => j !== i) }));
    afterRemoval();
  });
  remove.title = "Remove this feature";
  const track = h("div", { class: "sk-slider" }, slider, tick, tickText);
  const row = { class: "sk-row", role: "group" };
  const element = h("div", row, number, name, track, strength, otherUnits, sweep, remove);

  /** What is known of a feature, with its recommended strength in the panel's unit. */
  const infoOf = ({ feature }: FeatureStrength) => {
    const info = model.get("about")[String(feature)] ?? UNKNOWN_FEATURE;
    const scale = { max: info.max, residual: info.residual ?? model.get("residual_norm") };
    const recommended = info.recommended === null ? null : convert(info.recommended, "norm", model.get("unit"), scale);
    return { info, scale, recommended };
  };
  let [lowest, drawnRange] = [0, ""]; // a slider that has gone below zero keeps that side while it is in use
  const drawSlider = ({ feature, strength: value }: FeatureStrength) => {
    const unit = model.get("unit");
    const { info, scale, recommended } = infoOf({ feature, strength: value });
    const range = sliderRangeIncluding(unit, scale, value, recommended);
    const key = `${unit} ${feature} ${range.max}`;
    range.min = lowest = key === drawnRange ? Math.min(lowest, range.min) : range.min;
    drawnRange = key;
    slider.min = String(range.min);
    slider.max = String(range.max);
    slider.step = String(range.step);
    inputs.setValue(slider, String(value));
    const [zero, here] = [fraction(0, range), fraction(value, range)];
    slider.style.setProperty("--from", Math.min(zero, here).toFixed(4));
    slider.style.setProperty("--to", Math.max(zero, here).toFixed(4));
    slider.setAttribute("aria-label", `Strength of feature ${feature}`);
    slider.setAttribute("aria-valuetext", formatStrength(value, unit));
    tick.hidden = recommended === null;
    tick.style.setProperty("--at", fraction(recommended ?? 0, range).toFixed(4));
    tick.setAttribute("aria-label", `Set feature ${feature} to its recommended strength`);
    tick.title = recommended === null ? "" : `recommended: ${formatStrength(info.recommended ?? 0, "norm")}`;
    tickText.textContent = tick.title;
    if (recommended === null) slider.removeAttribute("aria-describedby");
    else slider.setAttribute("aria-describedby", tickText.id);
    otherUnits.textContent = inOtherUnits(value, unit, scale);
  };
  const draw = (entry: FeatureStrength) => {
    const { feature } = entry;
    const last = model.get("n_features") - 1;
    const { info } = infoOf(entry);
    drawSlider(entry);
    inputs.setValue(strength, inputNumber(entry.strength, 4));
    inputs.setValue(number, String(feature));
    number.max = String(last);
    number.title = `0 to ${formatCount(last)}, each once in a condition`;
    name.textContent = name.title = nameText(info.name);
    element.setAttribute("aria-label", `Feature ${feature}${info.name && `, ${nameText(info.name)}`}`);
    const strengths = formatStrengths(model.get("sweep_strengths"), model.get("unit"));
    sweep.title = `Generate with feature ${feature} at ${strengths}, beside the unsteered text`;
    sweep.setAttribute("aria-label", `Sweep feature ${feature}`);
    sweep.disabled = model.get("running") || !model.get("live");
    remove.setAttribute("aria-label", `Remove feature ${feature}`);
  };
  return { element, number, draw };
}
