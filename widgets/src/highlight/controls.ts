// What colours the text and which features may: a choice, a number, a slider, and filters that are folded away.

import { field, h, NO_SHORTCUTS, uniqueId } from "../shared/dom";
import { setTraits } from "../shared/model";
import { formatCount } from "../shared/numbers";
import type { Colouring } from "./standouts";
import { type HighlightState, MAX_FILTER, MAX_SHOWN, type Model } from "./state";

const CHOICES = { standout: "What stands out", feature: "One feature", strongest: "Strongest activation" };
const DELAY = 150; // milliseconds without a key before the words are looked for

export interface Controls {
  element: HTMLElement;
  draw(colouring: Colouring): void;
}

export function controls(model: Model, signal: AbortSignal | undefined): Controls {
  const set = (values: Partial<HighlightState>) => setTraits<HighlightState>(model, values);
  const options = Object.entries(CHOICES).map(([value, text]) => h("option", { value }, text));
  const choice = h("select", { ...NO_SHORTCUTS }, ...options);
  let first = 0; // the feature that "one feature" begins with
  choice.addEventListener("change", () => {
    const one = choice.value === "feature";
    set({ colour_by: choice.value, feature: one ? (model.get("feature") ?? first) : null });
  });

  const number = featureNumber(model, (feature) => {
    set({ feature, colour_by: feature === null ? "standout" : "feature" });
  });

  const slider = h("input", { type: "range", min: 1, max: MAX_SHOWN, step: 1, ...NO_SHORTCUTS });
  const shown = h("span", { class: "sk-num sk-slider-value", "aria-hidden": "true" });
  slider.addEventListener("input", () => set({ n_features_shown: Number(slider.value) }));
  const sliderField = field("Features shown", slider);
  sliderField.append(shown);

  const fold = filters(model, set, signal);
  const row = h("div", { class: "sk-controls" }, field("Colour by", choice), number.element, sliderField);
  const element = h("div", { class: "sk-highlight-controls" }, row, fold.element);
  element.addEventListener("keydown", (event) => event.stopPropagation());

  const draw = (colouring: Colouring) => {
    first = colouring.shown[0]?.feature ?? first;
    choice.value = model.get("colour_by");
    number.draw();
    slider.value = String(model.get("n_features_shown"));
    shown.textContent = slider.value;
    const standout = choice.value === "standout";
    sliderField.hidden = !standout;
    fold.element.hidden = !standout;
    fold.draw();
  };
  return { element, draw };
}

function featureNumber(model: Model, set: (feature: number | null) => void) {
  const input = h("input", { type: "number", min: 0, step: 1, placeholder: "number", ...NO_SHORTCUTS });
  const problem = h("span", { class: "sk-muted", role: "status", id: uniqueId("problem") });
  input.setAttribute("aria-describedby", problem.id);
  input.addEventListener("change", () => {
    const limit = model.get("n_features");
    const value = input.value.trim() === "" ? null : Number(input.value);
    const inRange = value === null || (Number.isInteger(value) && value >= 0 && value < limit);
    const valid = !input.validity.badInput && inRange;
    input.setAttribute("aria-invalid", String(!valid));
    problem.textContent = valid ? "" : `Feature numbers run from 0 to ${formatCount(limit - 1)}.`;
    if (valid && value !== model.get("feature")) set(value);
  });
  const label = field("Colour by feature", input);
  const element = h("span", { class: "sk-field" }, label, problem);
  const draw = () => {
    const feature = model.get("feature");
    input.max = String(model.get("n_features") - 1);
    if (document.activeElement !== input || feature !== null) input.value = feature === null ? "" : String(feature);
    input.setAttribute("aria-invalid", "false");
    problem.textContent = "";
  };
  return { element, draw };
}

function filters(model: Model, set: (values: Partial<HighlightState>) => void, signal: AbortSignal | undefined) {
  const words = { placeholder: "number or name", maxlength: MAX_FILTER };
  const search = h("input", { type: "search", ...words, ...NO_SHORTCUTS });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const find = () => {
    clearTimeout(timer);
    timer = undefined;
    if (search.value !== model.get("filter")) set({ filter: search.value });
  };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, DELAY);
  });
  search.addEventListener("change", find);
  signal?.addEventListener("abort", () => clearTimeout(timer));

  const low = percentInput("Lowest density in percent", "0", (value) => set({ min_density: value ?? 0 }));
  const high = percentInput("Highest density in percent", "100", (value) => set({ max_density: value ?? 1 }));
  const relative = percentInput("Least activation in percent of the maximum", "0", (value) => {
    set({ min_relative: value ?? 0 });
  });
  const name = (text: string) => h("span", { class: "sk-field-name", "aria-hidden": "true" }, text);
  const state = h("span", { class: "sk-muted" });
  const element = h(
    "details",
    { class: "sk-filters" },
    h("summary", { ...NO_SHORTCUTS }, "Filters ", state),
    h(
      "div",
      { class: "sk-controls", role: "group", "aria-label": "Which features may colour the text" },
      field("Find", search),
      h("span", { class: "sk-field" }, name("Density %"), low, name("to"), high),
      h("span", { class: "sk-field" }, name("At least % of the maximum"), relative),
    ),
  );
  const draw = () => {
    if (timer === undefined && search.value !== model.get("filter")) search.value = model.get("filter");
    const [from, to, least] = [model.get("min_density"), model.get("max_density"), model.get("min_relative")];
    low.value = percent(from, 0);
    high.value = percent(to, 1);
    relative.value = percent(least, 0);
    const on = [
      from > 0 || to < 1 ? `density ${percent(from)} to ${percent(to)} %` : "",
      least > 0 ? `at least ${percent(least)} % of the maximum` : "",
      model.get("filter").trim() ? `\u201c${model.get("filter").trim()}\u201d` : "",
    ];
    state.textContent = on.filter(Boolean).join(", ");
  };
  return { element, draw };
}

/** A fraction in percent; nothing where it is no bound. */
const percent = (value: number, none?: number): string =>
  value === none ? "" : String(Number((value * 100).toPrecision(6)));

/** A field in percent; an empty one is no bound, and what is not from 0 to 100 is marked and not set. */
function percentInput(label: string, placeholder: string, set: (value: number | null) => void): HTMLInputElement {
  const range = { type: "number", min: 0, max: 100, step: "any" };
  const input = h("input", { ...range, placeholder, "aria-label": label, ...NO_SHORTCUTS });
  input.addEventListener("change", () => {
    const value = input.value.trim() === "" ? null : Number(input.value) / 100;
    const valid = !input.validity.badInput && (value === null || (value >= 0 && value <= 1));
    input.setAttribute("aria-invalid", String(!valid));
    if (valid) set(value);
  });
  return input;
}
