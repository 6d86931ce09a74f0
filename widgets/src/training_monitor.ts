// A training run: progress, a table of values, six line charts with one shared cursor, and the activation densities.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import { type Binary, f32, f64, i32 } from "./shared/arrays";
import { type Chart, chart, type Drawing, style } from "./shared/chart";
import { h, svg } from "./shared/dom";
import { listen } from "./shared/model";
import { between, compact, duration, exponent, type ScaleOptions, scale, short } from "./shared/scale";
import { column, count, number, share } from "./shared/text";
import "./training_monitor.css";

export interface Density {
  low?: number;
  counts?: number[];
  never?: number;
}
export interface MonitorState {
  status: string;
  message: string;
  names: string[];
  step: number;
  n_steps: number;
  n_tokens: number;
  total_tokens: number;
  rate: number;
  seconds: number;
  columns: Record<string, Binary>;
  densities: Density[];
  live: boolean;
}

const BINS_PER_DECADE = 4;
const QUIET_AFTER = 30; // seconds without news before a running monitor says so
export const CURVES: { name: string; title: string; head: string; write: (v: number) => string; axis: ScaleOptions }[] =
  [
    { name: "loss", title: "Loss", head: "Loss", write: column, axis: { log: true } },
    {
      name: "explained_variance",
      title: "Explained variance",
      head: "Explained var.",
      write: (v) => v.toFixed(3).replace("-", "\u2212"),
      axis: { floor: -0.2 },
    },
    { name: "l0", title: "Active features per token (L0)", head: "L0", write: number, axis: { log: true, zero: true } },
    { name: "dead_share", title: "Dead features", head: "Dead", write: share, axis: { zero: true, percent: true } },
    { name: "tokens_per_second", title: "Tokens per second", head: "Tokens/s", write: number, axis: { zero: true } },
    { name: "lr", title: "Learning rate", head: "Learning rate", write: exponent, axis: { zero: true } },
  ];

/** A value in words, with what is not a number said as such. */
export function written(value: number | undefined, write: (v: number) => string): string {
  if (value === undefined) return "\u2013";
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? write(value) : value > 0 ? "\u221e" : "\u2212\u221e";
}

/** One column of values for each SAE. */
function split(column: Binary | undefined, n: number, parts: number): Float32Array[] {
  const all = f32(column);
  return Array.from({ length: parts }, (_, i) => all.slice(i * n, (i + 1) * n));
}

const alike = (a: Float32Array, b: Float32Array): boolean => a.every((v, i) => Object.is(v, b[i]));

export function swatch(i: number): SVGElement {
  const { stroke, dash } = style(i);
  const picture = svg("svg", { width: 26, height: 10, "aria-hidden": "true", class: "sk-swatch" });
  picture.append(
    svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, style: `stroke: ${stroke}`, "stroke-dasharray": dash || "none" }),
  );
  return picture;
}

/** The run's progress in words: share, rate, time. */
export function progressWords(
  state: Pick<MonitorState, "status" | "step" | "n_steps" | "n_tokens" | "total_tokens" | "rate" | "seconds">,
): string {
  const parts = [
    `step ${count(state.step)} of ${count(state.n_steps)}`,
    `${compact(state.n_tokens)} of ${compact(state.total_tokens)} tokens`,
  ];
  if (state.rate > 0) {
    parts.push(`${compact(state.rate)} tokens/s`);
    const left = (state.total_tokens - state.n_tokens) / state.rate;
    parts.push(state.status === "running" ? `about ${duration(left)} left` : `${duration(state.seconds)} of training`);
  }
  return parts.join(" \u00b7 ");
}

function render({ model, el, signal }: RenderProps<MonitorState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-monitor");
  const badge = h("span", { class: "sk-status", role: "status" });
  const progress = h("progress", { "aria-label": "Share of the run that is done", max: 1 });
  const words = h("span", { class: "sk-soft sk-num sk-progress-words" });
  const quiet = h("p", { class: "sk-soft sk-quiet" });
  const error = h("p", { class: "sk-error", role: "alert" });
  const empty = h("p", { class: "sk-empty" });
  const table = h("div", {
    class: "sk-values",
    role: "region",
    "aria-label": "Values of the run",
    tabindex: 0,
    "data-lm-suppress-shortcuts": "true",
  });
  let cursor: number | null = null;
  let over = -1; // the chart under the pointer or with focus
  let bin: number | null = null;
  let steps: Int32Array = new Int32Array(0);
  let tokens: Float64Array = new Float64Array(0);
  let values: Float32Array[][] = []; // by curve, then SAE
  let heard = Date.now();

  const charts: Chart[] = CURVES.map(({ title }, c) =>
    chart(
      title,
      (i) => {
        [cursor, over] = [i, i === null ? -1 : c];
        drawCursor();
      },
      signal,
    ),
  );
  const density = chart(
    "Activation density",
    (i) => {
      bin = i;
      drawBin();
    },
    signal,
  );
  density.el.classList.add("sk-density");
  const grid = h("div", { class: "sk-charts" }, ...charts.map((c) => c.el), density.el);
  el.replaceChildren(
    h("header", { class: "sk-monitor-head" }, badge, progress, words),
    quiet,
    error,
    empty,
    table,
    h("div", { class: "sk-chart-box" }, grid),
  );

  const names = () => model.get("names");
  const swatches = (i: number) => (names().length > 1 ? swatch(i) : null);

  const drawHead = () => {
    const status = model.get("status");
    const gone = !model.get("live") && status === "running";
    if (badge.textContent !== status) badge.textContent = status;
    badge.dataset.status = status;
    progress.hidden = words.hidden = status === "waiting";
    progress.value = model.get("n_steps") > 0 ? model.get("step") / model.get("n_steps") : 0;
    words.textContent = progressWords({
      status: gone ? "" : status,
      step: model.get("step"),
      n_steps: model.get("n_steps"),
      n_tokens: model.get("n_tokens"),
      total_tokens: model.get("total_tokens"),
      rate: model.get("rate"),
      seconds: model.get("seconds"),
    });
    error.textContent = model.get("message");
    error.hidden = model.get("message") === "";
    drawQuiet();
  };
  const drawQuiet = () => {
    const silent = (Date.now() - heard) / 1000;
    const running = model.get("status") === "running";
    quiet.hidden = !running || (model.get("live") && silent < QUIET_AFTER);
    quiet.textContent = model.get("live")
      ? `No news for ${duration(silent)}: a step takes long, or the kernel has stopped. What was last known is below.`
      : "The run was still going on when this page was written.";
  };

  const drawCurves = () => {
    const n = names().length;
    const columns = model.get("columns");
    [steps, tokens] = [i32(columns.step), f64(columns.n_tokens)];
    values = CURVES.map(({ name }) => split(columns[name], steps.length, n));
    const nothing = steps.length === 0;
    grid.hidden = table.hidden = nothing;
    empty.hidden = !nothing;
    empty.textContent =
      model.get("status") === "waiting"
        ? "Waiting for a run. Pass this monitor to sk.train(\u2026, loggers=[monitor])."
        : model.get("status") === "running"
          ? "The first values come with the first logged step."
          : "No values were logged.";
    if (nothing) return;
    if (cursor !== null && cursor >= steps.length) cursor = null;
    const first = tokens[0] ?? 0;
    const last = tokens[tokens.length - 1] ?? 0;
    const [from, to] = last > first ? [first < 0.2 * last ? 0 : first, last] : [last - 1, last + 1];
    const place = (t: number) => (t - from) / (to - from);
    const marks = last > first ? between(from, to, 3) : [last];
    const step = (marks[1] ?? last) - (marks[0] ?? 0);
    const xTicks = marks.map((t) => ({ at: place(t), label: short(t, step || t) }));
    const x = Array.from(tokens, place);
    CURVES.forEach((curve, c) => {
      const mine = values[c] ?? [];
      const same = n > 1 && mine.every((v) => alike(v, mine[0] as Float32Array));
      const shown = same ? mine.slice(0, 1) : mine;
      const all = shown.flatMap((v) => Array.from(v));
      const y = scale(all, curve.axis);
      const bad = all.filter((v) => !Number.isFinite(v)).length;
      const notes = [
        y.log && "log scale",
        same && "all the same",
        !y.log && all.some((v) => v < y.low) && `cut off below ${y.label(curve.axis.floor ?? y.low)}`,
        bad > 0 && `${bad} not finite`,
      ].filter((note): note is string => typeof note === "string");
      const drawing: Drawing = {
        x,
        xTicks,
        xTitle: "tokens seen",
        y,
        notes,
        label: "by tokens seen",
        lines: shown.map((v, i) => ({ values: v, look: same ? -1 : i })),
      };
      charts[c]?.draw(drawing);
    });
    drawCursor();
  };

  const drawCursor = () => {
    if (steps.length === 0) return;
    const i = cursor ?? steps.length - 1;
    const where = `step ${count(steps[i])}, ${compact(tokens[i] ?? 0)} tokens`;
    const rows = names().map((name, s) => {
      const head = h(
        "th",
        { scope: "row", title: name },
        h("span", { class: "sk-name-cell" }, swatches(s) as unknown as Node, h("span", {}, name)),
      );
      return h("tr", {}, head, ...CURVES.map((curve, c) => h("td", {}, written(values[c]?.[s]?.[i], curve.write))));
    });
    const heads = CURVES.map(({ head }) => h("th", { scope: "col" }, head));
    const caption = h("caption", {}, cursor === null ? `Last values, ${where}` : `At ${where}`);
    table.replaceChildren(
      h(
        "table",
        {},
        caption,
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "SAE"), ...heads)),
        h("tbody", {}, ...rows),
      ),
    );
    charts.forEach((c, k) => {
      const curve = CURVES[k];
      if (!curve) return;
      const read = names().map((name, s) => ({ name, s, text: written(values[k]?.[s]?.[i], curve.write) }));
      const same = read.length > 1 && read.every((r) => r.text === read[0]?.text);
      const lines = (same ? read.slice(0, 1) : read).map(({ s, text }) =>
        h("div", {}, same ? null : (swatches(s) as unknown as Node), text),
      );
      const spoken =
        read.length === 1 || same ? (read[0]?.text ?? "") : read.map((r) => `${r.name}: ${r.text}`).join("; ");
      c.mark(cursor, over === k ? [...lines, h("div", { class: "sk-soft" }, where)] : null, `${spoken}, ${where}`);
    });
  };

  const drawDensity = () => {
    const shown = model
      .get("densities")
      .map((d, look) => ({ d, look }))
      .filter(({ d }) => d.counts);
    density.el.hidden = shown.length === 0;
    if (shown.length === 0) return;
    const low = Math.min(...shown.map(({ d }) => d.low ?? -1));
    const n = -low * BINS_PER_DECADE;
    if (bin !== null && bin >= n) bin = null;
    const lines = shown.map(({ d, look }) => {
      const counts = d.counts ?? [];
      return { look, values: [...new Array<number>(n - counts.length).fill(0), ...counts] };
    });
    const never = shown.map(({ d }) => count(d.never ?? 0));
    const notes = [
      "number of features",
      ...(shown.every(({ d }) => !d.never) ? [] : [`${never.join(" / ")} never fired`]),
    ];
    const every = Math.ceil(-low / 6);
    const decades = Array.from({ length: -low + 1 }, (_, i) => low + i).filter((e) => e % every === 0);
    density.draw({
      x: Array.from({ length: n + 1 }, (_, i) => i / n),
      bars: true,
      lines,
      notes,
      xTicks: decades.map((e) => ({ at: (e - low) / -low, label: percent(e) })),
      xTitle: "share of tokens a feature fires on (log scale)",
      y: scale(
        lines.flatMap((l) => l.values),
        { zero: true },
      ),
      label: "number of features by the share of tokens they fire on",
    });
    drawBin();
  };
  const drawBin = () => {
    const densities = model.get("densities");
    const low = Math.min(-1, ...densities.map((d) => d.low ?? -1));
    const n = -low * BINS_PER_DECADE;
    const i = bin ?? n - 1;
    const where = `${share(10 ** (low + i / BINS_PER_DECADE))} to ${share(10 ** (low + (i + 1) / BINS_PER_DECADE))} of tokens`;
    const read = densities.flatMap((d, s) =>
      d.counts ? [{ s, text: features(d.counts[i - n + d.counts.length] ?? 0) }] : [],
    );
    const lines = read.map(({ s, text }) => h("div", {}, swatches(s) as unknown as Node, text));
    const spoken = read.map(({ s, text }) => (read.length > 1 ? `${names()[s]}: ${text}` : text)).join("; ");
    density.mark(bin, [...lines, h("div", { class: "sk-soft" }, where)], `${spoken}, ${where}`);
  };

  const news = (draw: () => void) => () => {
    heard = Date.now();
    draw();
  };
  listen<MonitorState>(
    model,
    ["status", "message", "step", "n_steps", "n_tokens", "total_tokens", "rate", "seconds", "live"],
    news(drawHead),
    signal,
  );
  listen<MonitorState>(model, ["names", "columns", "status"], news(drawCurves), signal);
  listen<MonitorState>(model, ["names", "densities"], news(drawDensity), signal);
  const clock = setInterval(drawQuiet, 5000);
  signal?.addEventListener("abort", () => clearInterval(clock));
  drawHead();
  drawCurves();
  drawDensity();
}

const features = (n: number): string => `${count(n)} feature${n === 1 ? "" : "s"}`;
/** 10^e as a percentage: 100 %, 1 %, 0.01 %. */
const percent = (e: number): string => `${e >= -2 ? 10 ** (e + 2) : (10 ** (e + 2)).toFixed(-e - 2)} %`;

export default { render };
