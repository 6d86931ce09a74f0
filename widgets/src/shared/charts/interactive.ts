// A line chart or histogram with a cursor that follows the pointer or the arrow keys.
// It is drawn in real pixels, so that text and lines keep their size at any width.

import "./interactive.css";
import { h, NO_SHORTCUTS, svg } from "../dom";
import { type Axes, drawAxes, PlotArea } from "./axes";
import { bars, dot, line, outline } from "./series";

const HEIGHT = 152;
const TOP = 8;
const RIGHT = 12;
const BOTTOM = 36;

export interface ChartData extends Axes {
  /** Horizontal position of each point, or of each edge of a bin, 0 to 1. */
  x: readonly number[];
  /** Values by point or bin; `style` is the number of the line style, -1 for a line that stands for all series. */
  series: readonly { values: ArrayLike<number>; style: number }[];
  /** Lines through points by default; a histogram has bins from x[i] to x[i + 1]: bars, or outlines if several. */
  histogram?: boolean;
  notes: readonly string[];
  description: string;
}

export interface Chart {
  element: HTMLElement;
  draw(data: ChartData): void;
  /** Puts the cursor on point i, none with null; `tooltip` stands beside it and `text` is what screen readers say. */
  setCursor(i: number | null, tooltip: readonly Node[] | null, text: string): void;
}

/** A chart with a heading. `onSelect` is called with the point that pointer or keys choose, null when they leave. */
export function interactiveChart(title: string, onSelect: (i: number | null) => void, signal?: AbortSignal): Chart {
  const notes = h("span", { class: "sk-chart-note" });
  const tooltip = h("div", { class: "sk-tooltip", "aria-hidden": "true" });
  const plot = h("div", {
    class: "sk-plot",
    role: "slider",
    tabindex: 0,
    "aria-orientation": "horizontal",
    ...NO_SHORTCUTS,
  });
  const element = h("figure", { class: "sk-chart" }, h("figcaption", {}, h("h4", {}, title), notes), plot);
  let data: ChartData | null = null;
  let overlay = svg("g");
  let area = new PlotArea(0, 0, 1, 1);
  let cursor: number | null = null;

  const nPoints = () => (data ? data.x.length - (data.histogram ? 1 : 0) : 0);
  const centre = (i: number) => {
    const left = data?.x[i] ?? 0;
    return data?.histogram ? (left + (data.x[i + 1] ?? 0)) / 2 : left;
  };
  const nearest = (clientX: number): number | null => {
    const position = (clientX - plot.getBoundingClientRect().left - area.left) / area.width;
    const distance = (i: number) => Math.abs(centre(i) - position);
    let best: number | null = null;
    for (let i = 0; i < nPoints(); i++) if (best === null || distance(i) < distance(best)) best = i;
    return best;
  };
  const selectNearest = (event: PointerEvent) => onSelect(nearest(event.clientX));
  plot.addEventListener("pointermove", selectNearest);
  plot.addEventListener("pointerdown", selectNearest);
  plot.addEventListener("pointerleave", () => onSelect(null));
  plot.addEventListener("blur", () => onSelect(null));
  plot.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || nPoints() === 0) return;
    const last = nPoints() - 1;
    const current = cursor ?? last;
    const target = keyTarget(event.key, current, last);
    if (target === undefined && (event.key !== "Escape" || cursor === null)) return;
    event.preventDefault();
    event.stopPropagation();
    onSelect(target === undefined ? null : Math.max(0, Math.min(last, target)));
  });

  const redraw = () => {
    plot.replaceChildren();
    if (!data) return;
    const { x, y, series, histogram } = data;
    const width = Math.max(160, plot.clientWidth || 280);
    const left = 10 + 6.3 * Math.max(2, ...y.ticks.map((tick) => y.label(tick).length));
    area = new PlotArea(left, TOP, width - left - RIGHT, HEIGHT - TOP - BOTTOM);
    const picture = drawAxes(area, width, HEIGHT, data);
    picture.setAttribute("width", String(width));
    picture.setAttribute("height", String(HEIGHT));
    picture.setAttribute("aria-hidden", "true");
    const clip = { x: left - 4, y: TOP - 4, width: area.width + 8, height: area.height + 8, overflow: "hidden" };
    const shapes = svg("g", { transform: `translate(${4 - left} ${4 - TOP})` });
    for (const { values, style } of series) {
      if (histogram && series.length === 1) shapes.append(...bars(x, values, y, area));
      else shapes.append(...(histogram ? outline : line)(style, x, values, y, area));
    }
    overlay = svg("g", { class: "sk-cursor" });
    picture.append(svg("svg", clip, shapes), overlay);
    plot.append(picture, tooltip);
  };

  const setCursor: Chart["setCursor"] = (i, content, text) => {
    cursor = i;
    overlay.replaceChildren();
    const last = nPoints() - 1;
    plot.setAttribute("aria-valuemin", "1");
    plot.setAttribute("aria-valuemax", String(Math.max(1, last + 1)));
    plot.setAttribute("aria-valuenow", String((i ?? Math.max(0, last)) + 1));
    plot.setAttribute("aria-valuetext", text);
    tooltip.hidden = i === null || content === null;
    if (i === null || !data || i > last) return;
    const x = area.x(centre(i));
    overlay.append(svg("line", { x1: x, x2: x, y1: area.top, y2: area.bottom }));
    for (const { values, style } of data.histogram ? [] : data.series) {
      const position = data.y.position(values[i] ?? NaN);
      if (position >= -0.01 && position <= 1.01) overlay.append(dot(style, x, area.y(position), 3.5));
    }
    if (content === null) return;
    tooltip.replaceChildren(...content);
    const inRightHalf = centre(i) > 0.5;
    tooltip.style.left = inRightHalf ? "auto" : `${x + 8}px`;
    tooltip.style.right = inRightHalf ? `${Math.max(0, plot.clientWidth - x + 8)}px` : "auto";
  };

  if (typeof ResizeObserver !== "undefined") {
    let width = 0;
    const observer = new ResizeObserver(() => {
      if (plot.clientWidth === width) return;
      width = plot.clientWidth;
      redraw();
    });
    observer.observe(plot);
    signal?.addEventListener("abort", () => observer.disconnect());
  }
  return {
    element,
    setCursor,
    draw(next) {
      data = next;
      plot.setAttribute("aria-label", `${title}: ${data.description}`);
      notes.textContent = data.notes.join(", ");
      redraw();
    },
  };
}

/** The point that a key moves the cursor to, which may lie outside; undefined for any other key. */
function keyTarget(key: string, current: number, last: number): number | undefined {
  const page = Math.max(1, Math.round((last + 1) / 10));
  const targets: Record<string, number> = {
    ArrowLeft: current - 1,
    ArrowDown: current - 1,
    ArrowRight: current + 1,
    ArrowUp: current + 1,
    PageDown: current - page,
    PageUp: current + page,
    Home: 0,
    End: last,
  };
  return targets[key];
}
