// Normal and steered text side by side. Python writes; this shows, and says what to run and when to stop.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./steering_panel.css";
import { QUIET, button, field, h } from "./shared/dom";
import { listen, put } from "./shared/model";
import { count, number } from "./shared/text";

interface Run {
  prompt: string;
  feature: number;
  strength: number;
  unit: string;
  positions: string;
  name: string;
  normal_text: string;
  steered_text: string;
}

export interface SteeringState {
  prompt: string;
  chat: boolean;
  feature: number;
  name: string;
  feature_max: number;
  n_features: number;
  strength: number;
  unit: string;
  units: string[];
  positions: string;
  max_new_tokens: number;
  temperature: number;
  seed: number;
  running: boolean;
  done: number;
  total: number;
  normal_text: string;
  steered_text: string;
  status: string;
  error: string;
  runs: Run[];
  live: boolean;
}

const UNITS: Record<string, string> = { raw: "raw activation", max: "\u00d7 its maximum", norm: "\u00d7 residual norm" };
const POSITIONS: Record<string, string> = { all: "all tokens", prompt: "the prompt only", generated: "new tokens only" };

/** The slider's range for a unit: up to where text usually breaks up. The box beside it takes any number. */
export function sliderRange(unit: string, featureMax: number): { min: number; max: number; step: number; start: number } {
  if (unit === "norm") return { min: 0, max: 1, step: 0.05, start: 0.5 };
  if (unit === "max") return { min: 0, max: 20, step: 0.5, start: 5 };
  const top = featureMax > 0 ? featureMax * 20 : 100;
  const step = 10 ** Math.floor(Math.log10(top / 40));
  const max = Math.ceil(top / step) * step;
  return { min: 0, max, step, start: Math.round(max / 4 / step) * step };
}

const amount = (run: { strength: number; unit: string }): string =>
  run.unit === "raw" ? number(run.strength) : `${number(run.strength)} ${UNITS[run.unit] ?? run.unit}`;

function render({ model, el, signal }: RenderProps<SteeringState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-steering");
  const set = (values: Partial<SteeringState>) => put<SteeringState>(model, values);
  let shown = -1; // which earlier run is shown; -1: the latest

  const prompt = h("textarea", { rows: 2, spellcheck: false, placeholder: "What should the model read or be asked?", ...QUIET });
  const chat = h("input", { type: "checkbox", ...QUIET });
  const feature = h("input", { type: "number", min: 0, step: 1, ...QUIET });
  const name = h("span", { class: "sk-name-of" });
  const slider = h("input", { type: "range", "aria-label": "Strength", ...QUIET });
  const strength = h("input", { type: "number", step: "any", "aria-label": "Strength as a number", ...QUIET });
  const unit = h("select", { "aria-label": "Unit of strength", ...QUIET });
  const positions = h("select", { ...QUIET });
  const tokens = h("input", { type: "number", min: 1, step: 1, ...QUIET });
  const temperature = h("input", { type: "number", min: 0, step: 0.1, ...QUIET });
  const seed = h("input", { type: "number", step: 1, ...QUIET });
  positions.append(...Object.entries(POSITIONS).map(([value, words]) => h("option", { value }, words)));

  prompt.addEventListener("input", () => set({ prompt: prompt.value }));
  chat.addEventListener("change", () => set({ chat: chat.checked }));
  slider.addEventListener("input", () => set({ strength: Number(slider.value) }));
  unit.addEventListener("change", () => set({ unit: unit.value, strength: sliderRange(unit.value, model.get("feature_max")).start }));
  positions.addEventListener("change", () => set({ positions: positions.value }));
  const typing = new Set<HTMLElement>(); // boxes with words that Python does not have yet: never overwritten
  const numeric = (box: HTMLInputElement, key: keyof SteeringState, good: (value: number) => boolean) => {
    box.addEventListener("input", () => typing.add(box));
    box.addEventListener("change", () => {
      typing.delete(box);
      const value = box.value.trim() === "" || box.validity.badInput ? NaN : Number(box.value);
      const fine = Number.isFinite(value) && good(value);
      box.setAttribute("aria-invalid", String(!fine));
      if (fine) set({ [key]: value });
    });
  };
  numeric(feature, "feature", (v) => Number.isInteger(v) && v >= 0 && v < model.get("n_features"));
  numeric(strength, "strength", () => true);
  numeric(tokens, "max_new_tokens", (v) => Number.isInteger(v) && v >= 1);
  numeric(temperature, "temperature", (v) => v >= 0);
  numeric(seed, "seed", Number.isInteger);

  const run = button("Run", "sk-button sk-primary", () => start());
  const stop = button("Stop", "sk-button", () => model.send({ kind: "stop" }));
  const progress = h("progress", { "aria-label": "Tokens written" });
  const status = h("output", { class: "sk-soft sk-num", "aria-live": "polite" });
  const error = h("p", { class: "sk-error", role: "alert" });
  const start = () => {
    if (model.get("running") || !model.get("live")) return;
    shown = -1;
    model.send({ kind: "run" });
  };
  const strengthField = h("span", { class: "sk-field sk-strength" }, h("span", { class: "sk-field-name" }, "Strength"), slider, strength, unit);
  const form = h(
    "div",
    { class: "sk-form" },
    h("label", { class: "sk-prompt" }, h("span", { class: "sk-field-name" }, "Prompt"), prompt),
    h("div", { class: "sk-line" }, field("Feature", feature), name),
    h("div", { class: "sk-line" }, strengthField),
    h(
      "div",
      { class: "sk-line sk-small" },
      field("Applied to", positions),
      field("New tokens", tokens),
      field("Temperature", temperature),
      field("Seed", seed),
      h("label", { class: "sk-field" }, chat, "Chat template"),
    ),
    h("div", { class: "sk-line sk-run" }, run, stop, progress, status),
    error,
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    }
    event.stopPropagation();
  });

  const said = (title: string, kind: string) => {
    const about = h("span", { class: "sk-soft" });
    const text = h("div", { class: "sk-said", tabindex: 0, role: "region", "aria-label": `${title} text`, ...QUIET });
    return { about, text, box: h("section", { class: `sk-text ${kind}` }, h("header", {}, h("h4", {}, title), about), text) };
  };
  const normal = said("Normal", "sk-normal");
  const steered = said("Steered", "sk-steered");
  const texts = h("div", { class: "sk-texts" }, h("div", { class: "sk-pair" }, normal.box, steered.box));
  const past = h("section", { class: "sk-past" });
  el.replaceChildren(form, texts, past);

  const drawForm = () => {
    const { activeElement } = document;
    const fill = (box: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement, value: string) => {
      if (box.value !== value && !typing.has(box) && !(box === activeElement && box === prompt)) box.value = value;
    };
    const range = sliderRange(model.get("unit"), model.get("feature_max"));
    slider.min = String(range.min);
    slider.max = String(range.max);
    slider.step = String(range.step);
    slider.value = String(model.get("strength"));
    const filled = (Number(slider.value) - range.min) / (range.max - range.min);
    slider.style.setProperty("--filled", `${(100 * filled).toFixed(1)}%`);
    slider.setAttribute("aria-valuetext", amount({ strength: model.get("strength"), unit: model.get("unit") }));
    unit.replaceChildren(...model.get("units").map((value) => h("option", { value }, UNITS[value] ?? value)));
    fill(prompt, model.get("prompt"));
    fill(feature, String(model.get("feature")));
    fill(strength, String(Number(model.get("strength").toPrecision(6))));
    fill(unit, model.get("unit"));
    fill(positions, model.get("positions"));
    fill(tokens, String(model.get("max_new_tokens")));
    fill(temperature, String(model.get("temperature")));
    fill(seed, String(model.get("seed")));
    for (const box of [feature, strength, tokens, temperature, seed]) if (!typing.has(box)) box.removeAttribute("aria-invalid");
    chat.checked = model.get("chat");
    feature.max = String(model.get("n_features") - 1);
    feature.title = `0 to ${count(model.get("n_features") - 1)}`;
    const promoted = model.get("name");
    name.replaceChildren(...(promoted ? ["promotes ", h("code", {}, promoted)] : []));
  };

  const drawTexts = () => {
    const running = model.get("running");
    const run = shown >= 0 ? model.get("runs")[shown] : undefined;
    const pairs = [
      { part: normal, words: run?.normal_text ?? model.get("normal_text"), about: "the model as it is" },
      { part: steered, words: run?.steered_text ?? model.get("steered_text"), about: run ? `feature ${run.feature} at ${amount(run)}` : model.get("error") ? "" : latest() },
    ];
    for (const { part, words, about } of pairs) {
      const atEnd = part.text.scrollHeight - part.text.scrollTop - part.text.clientHeight < 24;
      part.text.textContent = words;
      part.text.classList.toggle("sk-writing", running && !run);
      part.about.textContent = about;
      if (!words && !running) part.text.append(h("span", { class: "sk-soft" }, model.get("live") ? "Press Run to write here." : "Nothing was run."));
      if (atEnd && running) part.text.scrollTop = part.text.scrollHeight;
    }
  };
  const latest = () => {
    const runs = model.get("runs");
    const last = runs[runs.length - 1];
    const current = { feature: model.get("feature"), strength: model.get("strength"), unit: model.get("unit") };
    const shownRun = !model.get("running") && last && last.steered_text === model.get("steered_text") ? last : current;
    return `feature ${shownRun.feature} at ${amount(shownRun)}`;
  };

  const drawRun = () => {
    const [running, live] = [model.get("running"), model.get("live")];
    run.disabled = running || !live;
    stop.disabled = !running;
    run.hidden = stop.hidden = !live;
    progress.max = Math.max(1, model.get("total"));
    progress.value = model.get("done");
    progress.hidden = !running;
    status.textContent = live ? model.get("status") : "The texts below were written in a notebook, where the controls work.";
    error.textContent = model.get("error");
    error.hidden = model.get("error") === "";
    if (!live) for (const box of form.querySelectorAll<HTMLInputElement>("input, textarea, select")) box.disabled = true;
  };

  const drawPast = () => {
    const runs = model.get("runs");
    past.hidden = runs.length < 2;
    const list = runs.map((entry, i) => {
      const chosen = shown === i || (shown < 0 && i === runs.length - 1 && !model.get("running"));
      const press = button(`${entry.feature} at ${amount(entry)}`, "sk-chip", () => {
        shown = i;
        drawTexts();
        drawPast();
        past.querySelectorAll<HTMLElement>("button")[i]?.focus({ preventScroll: true });
      });
      press.title = entry.prompt;
      press.setAttribute("aria-pressed", String(chosen));
      press.setAttribute("aria-label", `Show the run of feature ${entry.feature} at ${amount(entry)}, prompt ${entry.prompt}`);
      return h("li", {}, press);
    });
    past.replaceChildren(h("h4", {}, "Earlier runs"), h("ul", {}, ...list));
    const run = shown >= 0 ? runs[shown] : undefined;
    if (run) past.append(h("p", { class: "sk-soft" }, `Prompt: ${run.prompt}`));
  };

  const onRunning = () => {
    if (model.get("running")) shown = -1;
    drawRun();
    drawTexts();
    drawPast();
  };
  listen<SteeringState>(
    model,
    ["prompt", "chat", "feature", "name", "feature_max", "n_features", "strength", "unit", "units", "positions", "max_new_tokens", "temperature", "seed"],
    drawForm,
    signal,
  );
  listen<SteeringState>(model, ["feature", "strength", "unit", "normal_text", "steered_text"], drawTexts, signal);
  listen<SteeringState>(model, ["status", "error", "done", "total"], drawRun, signal);
  listen<SteeringState>(model, ["running", "runs"], onRunning, signal);
  drawForm();
  onRunning();
}

export default { render };
