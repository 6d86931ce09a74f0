// A concept to write, the features that fire for it, and where the chosen one is wrong. Python ranks and scores;
// everything along the threshold is drawn here from the feature's activations.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./shared/card.css";
import "./specificity_panel.css";
import { button, field, h, NO_SHORTCUTS } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange, setTraits } from "./shared/model";
import { refusedLine } from "./shared/refused";
import { contextsView } from "./specificity/contexts";
import { Curve } from "./specificity/curve";
import { measuresView } from "./specificity/measures";
import { previewView } from "./specificity/preview";
import { queryForm } from "./specificity/query";
import { rankingView } from "./specificity/ranking";
import type { PanelState } from "./specificity/state";
import { thresholdView } from "./specificity/threshold";

const SEND = 150; // milliseconds between two thresholds that are sent to Python
const OFFLINE =
  "As it was in the notebook. The threshold, the charts and the contexts answer here; another concept, another feature and marks need the notebook with its kernel.";

function render({ model, el, signal }: RenderProps<PanelState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-specificity");
  const kernel = kernelOf(model, signal);
  const set = (values: Partial<PanelState>) => setTraits<PanelState>(model, values);
  const wish = (values: Partial<PanelState>) => {
    kernel.ask();
    set(values);
  };
  let curve: Curve | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let own: number | null = null; // the threshold that is being set here

  const send = () => {
    clearTimeout(timer);
    timer = undefined;
    if (own !== null && own !== model.get("threshold")) set({ threshold: own });
    own = null;
  };
  const form = queryForm(model, wish, signal);
  const preview = previewView(model);
  const ranking = rankingView(model, (feature) => {
    if (model.get("live") && feature !== model.get("feature")) wish({ feature });
  });
  const contexts = contextsView(model, kernel.tell);
  const chart = thresholdView(
    (threshold) => {
      own = threshold;
      number.value = String(Number(threshold.toPrecision(4)));
      contexts.setThreshold(curve?.at(threshold) ?? null, true);
      timer ??= setTimeout(send, SEND);
    },
    send,
    signal,
  );
  const measures = measuresView(model);

  const number = h("input", { type: "number", min: 0, step: "any", ...NO_SHORTCUTS });
  number.addEventListener("change", () => {
    const value = Number(number.value);
    const valid = number.value.trim() !== "" && Number.isFinite(value) && value >= 0;
    number.setAttribute("aria-invalid", String(!valid));
    if (valid) set({ threshold: value });
  });
  const featureInput = h("input", { type: "number", min: 0, step: 1, ...NO_SHORTCUTS });
  featureInput.addEventListener("change", () => {
    const value = Number(featureInput.value);
    const valid =
      featureInput.value.trim() !== "" && Number.isInteger(value) && value >= 0 && value < model.get("n_features");
    featureInput.setAttribute("aria-invalid", String(!valid));
    if (valid) wish({ feature: value });
  });
  const title = h("h3");
  const pickers = h("span", { class: "sk-controls" }, field("Feature", featureInput), field("Threshold", number));
  pickers.addEventListener("keydown", (event) => event.stopPropagation());
  const head = h("div", { class: "sk-feature-head" }, title, pickers);
  const figures = h("div", { class: "sk-figures" }, chart.element, measures.element);
  const featureSection = h(
    "section",
    { class: "sk-one-feature", "aria-label": "Feature" },
    head,
    figures,
    contexts.element,
  );

  const status = h("output", { class: "sk-muted", "aria-live": "polite" });
  const bar = h("progress", { "aria-label": "Progress", max: 1 });
  const stop = button("Stop", "sk-button", () => kernel.tell({ kind: model.get("running") ? "stop" : "run" }));
  const doing = h("div", { class: "sk-doing" }, bar, status, stop);
  const error = h("p", { class: "sk-error", role: "alert" });
  const offline = h("p", { class: "sk-note sk-muted" }, OFFLINE);
  const refused = refusedLine(model, signal);
  const above = [offline, form.element, refused, kernel.element, preview.element];
  el.replaceChildren(...above, doing, error, ranking.element, featureSection);

  const drawStatus = () => {
    const [running, progress, text, live] = [
      model.get("running"),
      model.get("progress"),
      model.get("status"),
      model.get("live"),
    ];
    status.textContent = text;
    if (progress >= 0) bar.value = progress;
    else bar.removeAttribute("value");
    bar.hidden = !running;
    doing.hidden = !live && text === "";
    stop.textContent = running ? "Stop" : "Run again";
    stop.hidden = !live || (!running && text === "");
    error.textContent = model.get("error");
    error.hidden = error.textContent === "";
    offline.hidden = live;
    el.setAttribute("aria-busy", String(running));
  };
  const drawThreshold = () => {
    if (own !== null) return;
    const threshold = model.get("threshold");
    number.value = String(Number(threshold.toPrecision(4)));
    chart.setThreshold(threshold);
    contexts.setThreshold(curve?.at(threshold) ?? null);
  };
  const drawTitle = () => {
    const { feature } = model.get("scores");
    const [live, name] = [model.get("live"), model.get("names")[String(feature)]];
    title.replaceChildren(`Feature ${feature ?? ""}`, name ? h("span", { class: "sk-name" }, ` ${name}`) : "");
    featureInput.value = String(feature ?? "");
    featureInput.max = String(model.get("n_features") - 1);
    featureInput.disabled = !live;
  };
  const drawScores = () => {
    const scores = model.get("scores");
    featureSection.hidden = scores.feature === undefined;
    curve = scores.feature === undefined ? null : new Curve(scores);
    chart.draw(curve, scores.band, scores.unit ?? "token");
    drawTitle();
    drawThreshold();
  };

  const on = (names: (keyof PanelState)[], draw: () => void) => onChange<PanelState>(model, names, draw, signal);
  on(["query", "query_error", "unit", "by", "labels", "live"], form.draw);
  on(["preview", "corpus", "marks"], preview.draw);
  on(["rows", "ranking", "names"], ranking.draw);
  on(["feature"], ranking.drawSelected);
  on(["scores"], drawScores);
  on(["names"], drawTitle);
  on(["threshold"], drawThreshold);
  on(["contexts"], contexts.draw);
  on(["marks", "n_undo", "refused"], contexts.drawMarks);
  on(["measures", "running"], measures.draw);
  on(["status", "progress", "running", "error", "live"], drawStatus);
  signal?.addEventListener("abort", () => clearTimeout(timer));
  form.draw();
  preview.draw();
  ranking.draw();
  drawScores();
  contexts.draw();
  measures.draw();
  drawStatus();
}

export default { render };
