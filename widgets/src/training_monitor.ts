// A training run: progress, a table of values, six line charts with one shared cursor, and the activation densities.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./training_monitor.css";
import { CURVES, curveData, formatValue, progressText, splitColumn, tokenAxis } from "./monitor/curves";
import { binText, densityData, nBins } from "./monitor/density";
import type { MonitorState } from "./monitor/state";
import { toFloat64, toInt32 } from "./shared/arrays";
import { type Chart, interactiveChart } from "./shared/charts/interactive";
import { swatch } from "./shared/charts/series";
import { h, NO_SHORTCUTS } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange, traits } from "./shared/model";
import { formatCompact, formatCount, formatDuration } from "./shared/numbers";
import { refusedLine } from "./shared/refused";

const STALE_AFTER = 30; // seconds without an update before a running monitor says so
const PROGRESS = ["status", "step", "n_steps", "n_tokens", "total_tokens", "rate", "seconds"] as const;

function render({ model, el, signal }: RenderProps<MonitorState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-monitor");
  const badge = h("span", { class: "sk-status", role: "status" });
  const progress = h("progress", { "aria-label": "Fraction of the run that is done", max: 1 });
  const progressLine = h("span", { class: "sk-muted sk-num sk-progress-words" });
  const staleNotice = h("p", { class: "sk-muted sk-stale" });
  const error = h("p", { class: "sk-error", role: "alert" });
  const empty = h("p", { class: "sk-empty" });
  const table = h("div", {
    class: "sk-values",
    role: "region",
    "aria-label": "Values of the run",
    tabindex: 0,
    ...NO_SHORTCUTS,
  });
  let cursor: number | null = null; // the step that is read, null for the last
  let hovered = -1; // the chart under the pointer or with the focus
  let bin: number | null = null;
  let steps: Int32Array = new Int32Array(0);
  let tokens: Float64Array = new Float64Array(0);
  let values: Float32Array[][] = []; // by curve, then SAE
  let lastUpdate = Date.now();

  const charts: Chart[] = CURVES.map(({ title }, c) => {
    const select = (i: number | null) => {
      [cursor, hovered] = [i, i === null ? -1 : c];
      drawCursor();
    };
    return interactiveChart(title, select, signal);
  });
  const selectBin = (i: number | null) => {
    bin = i;
    drawBin();
  };
  const density = interactiveChart("Activation density", selectBin, signal);
  density.element.classList.add("sk-density");
  const grid = h("div", { class: "sk-charts" }, ...charts.map((c) => c.element), density.element);
  el.replaceChildren(
    h("header", { class: "sk-monitor-head" }, badge, progress, progressLine),
    staleNotice,
    error,
    refusedLine(model, signal),
    kernelOf(model, signal).element,
    empty,
    h("div", { class: "sk-values-box" }, table),
    h("div", { class: "sk-chart-box" }, grid),
  );

  const names = () => model.get("names");
  const legend = (i: number) => (names().length > 1 ? swatch(i) : null);

  const drawHead = () => {
    const state = traits<MonitorState, (typeof PROGRESS)[number]>(model, PROGRESS);
    const unfinished = !model.get("live") && state.status === "running"; // on an offline page it never ends
    if (badge.textContent !== state.status) badge.textContent = state.status;
    badge.dataset.status = state.status;
    progress.hidden = progressLine.hidden = state.status === "waiting";
    progress.value = state.n_steps > 0 ? state.step / state.n_steps : 0;
    progressLine.textContent = progressText(unfinished ? { ...state, status: "" } : state);
    error.textContent = model.get("message");
    error.hidden = model.get("message") === "";
    drawStaleNotice();
  };
  const drawStaleNotice = () => {
    const age = (Date.now() - lastUpdate) / 1000;
    staleNotice.hidden = model.get("status") !== "running" || (model.get("live") && age < STALE_AFTER);
    staleNotice.textContent = model.get("live")
      ? `No update for ${formatDuration(age)}: a step takes long, or the kernel has stopped. The last known values are shown below.`
      : "The run had not finished when this page was saved.";
  };

  const drawCurves = () => {
    const columns = model.get("columns");
    [steps, tokens] = [toInt32(columns.step), toFloat64(columns.n_tokens)];
    values = CURVES.map(({ name }) => splitColumn(columns[name], steps.length, names().length));
    const isEmpty = steps.length === 0;
    grid.hidden = table.hidden = isEmpty;
    empty.hidden = !isEmpty;
    empty.textContent = EMPTY_TEXT[model.get("status")] ?? "No values were logged.";
    if (isEmpty) return;
    if (cursor !== null && cursor >= steps.length) cursor = null;
    const xAxis = tokenAxis(tokens);
    for (const [c, curve] of CURVES.entries()) charts[c]?.draw(curveData(curve, values[c] ?? [], xAxis));
    drawCursor();
  };

  const drawCursor = () => {
    if (steps.length === 0) return;
    const i = cursor ?? steps.length - 1;
    const where = `step ${formatCount(steps[i])}, ${formatCompact(tokens[i] ?? 0)} tokens`;
    const texts = CURVES.map(({ format }, c) => names().map((_, s) => formatValue(values[c]?.[s]?.[i], format)));
    const rows = names().map((name, s) => {
      const label = h("span", { class: "sk-name-cell" }, legend(s), h("span", {}, name));
      const heading = h("th", { scope: "row", title: name }, label);
      return h("tr", {}, heading, ...texts.map((column) => h("td", {}, column[s])));
    });
    const headings = ["SAE", ...CURVES.map(({ heading }) => heading)].map((text) => h("th", { scope: "col" }, text));
    const caption = h("caption", {}, cursor === null ? `Last values, ${where}` : `At ${where}`);
    table.replaceChildren(h("table", {}, caption, h("thead", {}, h("tr", {}, ...headings)), h("tbody", {}, ...rows)));
    for (const [c, chart] of charts.entries()) {
      const column = texts[c] ?? [];
      const identical = column.every((text) => text === column[0]);
      const shown = identical ? column.slice(0, 1) : column;
      const lines = shown.map((text, s) => h("div", {}, identical ? null : legend(s), text));
      const tooltip = hovered === c ? [...lines, h("div", { class: "sk-muted" }, where)] : null;
      const spoken = identical ? (column[0] ?? "") : column.map((text, s) => `${names()[s]}: ${text}`).join("; ");
      chart.setCursor(cursor, tooltip, `${spoken}, ${where}`);
    }
  };

  const drawDensity = () => {
    const data = densityData(model.get("densities"));
    density.element.hidden = data === null;
    if (data === null) return;
    if (bin !== null && bin >= nBins(model.get("densities"))) bin = null;
    density.draw(data);
    drawBin();
  };
  const drawBin = () => {
    const densities = model.get("densities");
    const { range, counts } = binText(densities, bin ?? nBins(densities) - 1);
    const shown = counts.flatMap((text, s) => (text === null ? [] : [{ text, s }]));
    const lines = shown.map(({ text, s }) => h("div", {}, legend(s), text));
    const spoken = shown.map(({ text, s }) => (shown.length > 1 ? `${names()[s]}: ${text}` : text)).join("; ");
    density.setCursor(bin, [...lines, h("div", { class: "sk-muted" }, range)], `${spoken}, ${range}`);
  };

  const onUpdate = (names: readonly (keyof MonitorState)[], draw: () => void) => {
    const callback = () => {
      lastUpdate = Date.now();
      draw();
    };
    onChange<MonitorState>(model, names, callback, signal);
  };
  onUpdate([...PROGRESS, "message", "live"], drawHead);
  onUpdate(["names", "columns", "status"], drawCurves);
  onUpdate(["names", "densities"], drawDensity);
  const timer = setInterval(drawStaleNotice, 5000);
  signal?.addEventListener("abort", () => clearInterval(timer));
  drawHead();
  drawCurves();
  drawDensity();
}

const EMPTY_TEXT: Record<string, string> = {
  waiting: "Waiting for a run. Pass this monitor to sk.train(\u2026, loggers=[monitor]).",
  running: "The first values appear with the first logged step.",
};

export default { render };
