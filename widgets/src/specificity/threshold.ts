// Firings by activation, and precision and recall along a threshold that is dragged. Everything is drawn from the
// activations themselves: nothing is asked of Python, and dragging moves a line and changes some text.

import "./threshold.css";
import { drawAxes, PlotArea } from "../shared/charts/axes";
import { axisScale, countScale, linearTicks, type Scale } from "../shared/charts/scale";
import { line, swatch } from "../shared/charts/series";
import { h, NO_SHORTCUTS, svg, uniqueId } from "../shared/dom";
import { formatCount, formatNumber, formatPlural } from "../shared/numbers";
import { type At, type Bin, bandOf, type Curve, type Curves } from "./curve";
import type { Band } from "./state";
import { short } from "./state";

const N_BINS = 10;
const N_POINTS = 240; // of a curve
const LEFT = 46;
const RIGHT = 14;
const HISTOGRAM = 150; // pixels of height
const CURVES = 172;
const ACCURACY = 0.01; // of the range: a step of the arrow keys

export interface ThresholdView {
  element: HTMLElement;
  /** New activations, or null where there are none. */
  draw(curve: Curve | null, band: Band | undefined, unit: string): void;
  setThreshold(threshold: number): void;
}

/** `onChange` is called with every threshold that pointer or keys set, `onEnd` when they let go. */
export function thresholdView(
  onChange: (threshold: number) => void,
  onEnd: () => void,
  signal?: AbortSignal,
): ThresholdView {
  const readout = h("p", { class: "sk-readout", "aria-hidden": "true" });
  const histogram = h("div", { class: "sk-histogram-plot" });
  const curves = h("div", { class: "sk-curves-plot" });
  const overlay = svg("svg", { class: "sk-overlay", "aria-hidden": "true" });
  const slider = h(
    "div",
    { class: "sk-threshold", role: "slider", tabindex: 0, "aria-label": "Threshold", ...NO_SHORTCUTS },
    histogram,
    curves,
    overlay,
  );
  const legend = h("p", { class: "sk-legend" });
  const hint = h(
    "p",
    { class: "sk-muted sk-hint" },
    "Drag the line, or focus the chart and press \u2190 \u2192, Page Up, Page Down, Home, End.",
  );
  const element = h("figure", { class: "sk-threshold-figure" }, readout, slider, legend, hint);

  let curve: Curve | null = null;
  let band: Band | undefined;
  let unit = "token";
  let threshold = 0;
  let width = 0;
  const inner = () => Math.max(60, width - LEFT - RIGHT);
  const xOf = (value: number) => LEFT + (curve && curve.max > 0 ? value / curve.max : 0) * inner();
  const [rule, handle] = [svg("line"), svg("path")];
  let reached: SVGElement = svg("rect"); // what is at and above the threshold, in full colour
  const dots = [svg("circle", { r: 4, class: "sk-dot-precision" }), svg("circle", { r: 4, class: "sk-dot-recall" })];
  rule.setAttribute("class", "sk-rule");
  handle.setAttribute("class", "sk-handle");
  overlay.append(rule, ...dots, handle);
  let yCurve: (value: number) => number = () => 0;

  const repaint = () => {
    if (!curve || curve.max <= 0) return;
    const at = curve.at(threshold);
    const x = Math.min(xOf(threshold), LEFT + inner());
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: 6, y2: HISTOGRAM + CURVES - 36 }))
      rule.setAttribute(name, String(value));
    reached.setAttribute("x", String(x));
    handle.setAttribute("d", `M${x - 6} 0h12v8l-6 7l-6 -7z`);
    for (const [i, value] of [at.precision, at.recall].entries()) {
      const dot = dots[i];
      dot?.setAttribute("cx", String(x));
      dot?.setAttribute("cy", String(Number.isNaN(value) ? -20 : yCurve(value)));
    }
    readout.replaceChildren(...readoutParts(at, unit));
    slider.setAttribute("aria-valuenow", String(Number(threshold.toPrecision(6))));
    slider.setAttribute("aria-valuetext", spoken(at, unit));
  };
  const redraw = () => {
    const empty = !curve || curve.max <= 0;
    slider.hidden = legend.hidden = hint.hidden = empty;
    if (!curve || curve.max <= 0) {
      readout.textContent = "The feature does not fire on these documents.";
      return;
    }
    width = Math.max(280, slider.clientWidth || 560);
    overlay.setAttribute("width", String(width));
    overlay.setAttribute("height", String(HISTOGRAM + CURVES));
    const bins = curve.bins(N_BINS);
    const bars = histogramPicture(bins, curve.max, width, inner(), unit);
    reached = bars.reached;
    histogram.replaceChildren(bars.picture);
    const drawn = curvesPicture(curve, band, width, inner());
    curves.replaceChildren(drawn.picture);
    yCurve = (value) => HISTOGRAM + drawn.y(value);
    slider.setAttribute("aria-valuemin", "0");
    slider.setAttribute("aria-valuemax", String(Number(curve.max.toPrecision(6))));
    legend.replaceChildren(...legendParts(band?.n ?? 0));
    repaint();
  };

  const set = (value: number) => {
    if (!curve) return;
    threshold = Math.min(curve.max, Math.max(0, value));
    repaint();
    onChange(threshold);
  };
  const fromPointer = (event: PointerEvent) => {
    const x = event.clientX - slider.getBoundingClientRect().left;
    set(((x - LEFT) / inner()) * (curve?.max ?? 0));
  };
  let dragging = false;
  slider.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    slider.setPointerCapture?.(event.pointerId);
    slider.focus({ preventScroll: true });
    event.preventDefault();
    fromPointer(event);
  });
  slider.addEventListener("pointermove", (event) => {
    if (dragging) fromPointer(event);
  });
  for (const name of ["pointerup", "pointercancel"])
    slider.addEventListener(name, () => {
      if (dragging) onEnd();
      dragging = false;
    });
  slider.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !curve) return;
    const step = curve.max * ACCURACY;
    const targets: Record<string, number> = {
      ArrowLeft: threshold - step,
      ArrowDown: threshold - step,
      ArrowRight: threshold + step,
      ArrowUp: threshold + step,
      PageDown: threshold - 10 * step,
      PageUp: threshold + 10 * step,
      Home: 0,
      End: curve.max,
    };
    const target = targets[event.key];
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    set(target);
    onEnd();
  });

  if (typeof ResizeObserver !== "undefined") {
    const observer = new ResizeObserver(() => {
      if (slider.clientWidth > 0 && Math.max(280, slider.clientWidth) !== width) redraw();
    });
    observer.observe(slider);
    signal?.addEventListener("abort", () => observer.disconnect());
  }
  return {
    element,
    draw(next, nextBand, nextUnit) {
      [curve, band, unit] = [next, nextBand, nextUnit];
      redraw();
    },
    setThreshold(next) {
      threshold = next;
      repaint();
    },
  };
}

function readoutParts(at: At, unit: string): (string | Node)[] {
  const figure = (name: string, value: number, className = "") =>
    h("span", { class: `sk-figure-value ${className}` }, `${name} `, h("b", {}, short(value)));
  return [
    h("span", { class: "sk-at" }, "at \u2265 ", h("b", {}, formatNumber(at.threshold))),
    figure("precision", at.precision, "sk-precision"),
    figure("recall", at.recall, "sk-recall"),
    figure("F1", at.f1),
    h("span", { class: "sk-muted" }, `${formatPlural(at.n, unit)} fire, ${formatCount(at.hits)} on the concept`),
  ];
}

const spoken = (at: At, unit: string): string =>
  `activation ${formatNumber(at.threshold)}: precision ${short(at.precision)}, recall ${short(at.recall)}, ` +
  `${formatPlural(at.n, unit)} of which ${formatCount(at.hits)} on the concept`;

function legendParts(nControls: number): (string | Node)[] {
  const box = (className: string) => h("i", { class: `sk-box ${className}`, "aria-hidden": "true" });
  const item = (...parts: (string | Node)[]) => h("span", { class: "sk-item" }, ...parts);
  const parts = [
    item(box("sk-hit"), "on the concept"),
    item(box("sk-alarm"), "off it (the coloured part of a bar is the fraction)"),
    item(swatch(0), "precision"),
    item(swatch(1), "recall"),
  ];
  if (nControls > 0) parts.push(item(box("sk-band"), `${formatPlural(nControls, "matched feature")}: mean and range`));
  return parts;
}

/** The height of a bar is the number of firings on a logarithmic scale, its coloured part the fraction of hits. What is
 * below the threshold is pale: `reached` clips what is not. */
function histogramPicture(bins: Bin[], max: number, width: number, inner: number, unit: string) {
  const y = countScale(Math.max(...bins.map((bin) => bin.n)));
  const area = new PlotArea(LEFT, 24, inner, HISTOGRAM - 24 - 14);
  const picture = drawAxes(area, width, HISTOGRAM, { xTicks: [], xTitle: "", y, yTitle: `${unit}s (log)` });
  picture.setAttribute("width", String(width));
  picture.setAttribute("height", String(HISTOGRAM));
  picture.setAttribute("aria-hidden", "true");
  const clip = uniqueId("reached");
  const reached = svg("rect", { x: 0, y: 0, width, height: HISTOGRAM });
  const strong = svg("g", { "clip-path": `url(#${clip})` });
  const pale = svg("g", { class: "sk-below" });
  for (const { low, high, n, hits } of bins) {
    if (n === 0) continue;
    const [x1, x2] = [area.x(low / max), area.x(high / max)];
    const top = Math.min(area.y(y.position(n)), area.bottom - 1);
    const split = area.bottom - ((area.bottom - top) * hits) / n;
    const text = `${formatNumber(low)} to ${formatNumber(high)}: ${formatCount(n)} fire, ${formatCount(hits)} on the concept`;
    const part = (from: number, to: number, className: string) => {
      const size = { x: x1 + 1, y: from, width: Math.max(1, x2 - x1 - 2), height: Math.max(0, to - from) };
      return svg("rect", { ...size, class: className }, svg("title", {}, text));
    };
    for (const group of [pale, strong]) group.append(part(top, split, "sk-alarm"), part(split, area.bottom, "sk-hit"));
    const label = { x: (x1 + x2) / 2, y: top - 4, "text-anchor": "middle" };
    if (x2 - x1 > 26) picture.append(svg("text", label, percentOf(hits, n)));
  }
  picture.append(svg("defs", {}, svg("clipPath", { id: clip }, reached)), pale, strong);
  return { picture, reached };
}

const percentOf = (hits: number, n: number): string => {
  const percent = (100 * hits) / n;
  return `${hits > 0 && hits < n ? Math.min(99, Math.max(1, Math.round(percent))) : Math.round(percent)}%`;
};

function curvesPicture(curve: Curve, band: Band | undefined, width: number, inner: number) {
  const scale = axisScale([0, 1], { n: 4 });
  const y: Scale = { ...scale, low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1], position: (v) => v };
  const area = new PlotArea(LEFT, 6, inner, CURVES - 6 - 36);
  const max = curve.max;
  const xTicks = linearTicks(0, max, Math.max(2, Math.min(8, inner / 70))).map((value) => ({
    position: value / max,
    label: formatNumber(value),
  }));
  const picture = drawAxes(area, width, CURVES, { xTicks, xTitle: "activation", y });
  picture.setAttribute("width", String(width));
  picture.setAttribute("height", String(CURVES));
  picture.setAttribute("aria-hidden", "true");
  for (const [i, name] of (["precision", "recall"] as const).entries()) {
    const matched = bandOf(band, name);
    if (matched) picture.append(...bandShapes(matched, max, area, i));
  }
  const x = Array.from({ length: N_POINTS + 1 }, (_, i) => i / N_POINTS);
  const points = x.map((position) => curve.at(Math.max(position * max, Number.MIN_VALUE)));
  picture.append(
    ...line(
      0,
      x,
      points.map((at) => at.precision),
      y,
      area,
    ),
  );
  picture.append(
    ...line(
      1,
      x,
      points.map((at) => at.recall),
      y,
      area,
    ),
  );
  return { picture, y: (value: number) => area.y(value) };
}

function bandShapes({ threshold, mean, low, high }: Curves, max: number, area: PlotArea, series: number): Element[] {
  const known = [...threshold.keys()].filter((i) => Number.isFinite(low[i]) && (threshold[i] ?? 0) <= max);
  if (known.length === 0) return [];
  const point = (i: number, value: number) =>
    `${area.x((threshold[i] ?? 0) / max).toFixed(1)} ${area.y(value).toFixed(1)}`;
  const path = (values: Float32Array, places: number[]) => places.map((i) => point(i, values[i] ?? 0)).join("L");
  const outline = `M${path(high, known)}L${path(low, [...known].reverse())}Z`;
  return [
    svg("path", { d: outline, class: `sk-band-${series}` }),
    svg("path", { d: `M${path(mean, known)}`, class: `sk-band-mean-${series}` }),
  ];
}
