// A small line chart or histogram in its own SVG, with one point under the pointer or the arrow keys.
// It is drawn in real pixels, so that text and strokes keep their size at any width.

import { h, QUIET, svg } from "./dom";
import type { Scale } from "./scale";

export const COLOURS = ["var(--sk-orange)", "var(--sk-blue)", "var(--sk-grey)"];
const DASHES = ["", "7 3", "2 3", "8 3 2 3"];
const HEIGHT = 152;
const TOP = 8;
const RIGHT = 12;
const BOTTOM = 36;

/** How line number i is drawn: three colours, then the same dashed, dotted, dash-dotted. */
export function style(i: number): { stroke: string; dash: string } {
  return { stroke: COLOURS[i % 3] ?? "", dash: DASHES[Math.floor(i / 3) % DASHES.length] ?? "" };
}

export interface Drawing {
  /** Horizontal position of each point, 0 to 1. */
  x: readonly number[];
  xTicks: readonly { at: number; label: string }[];
  xTitle: string;
  y: Scale;
  /** Lines by values at the points; `look` is the number of the style, -1 for a line that stands for all. */
  lines: readonly { values: ArrayLike<number>; look: number }[];
  /** Bars or outlines from x[i] to x[i + 1] in the place of lines. */
  bars?: boolean;
  notes: readonly string[];
  label: string;
}

export interface Chart {
  el: HTMLElement;
  draw(drawing: Drawing | null): void;
  /** Marks point i; `words` stand beside it. Null marks nothing. */
  mark(i: number | null, words: readonly Node[] | null, spoken: string): void;
}

/** A chart with a heading. `pick` is called with a point when the pointer or a key chooses one, null when it leaves. */
export function chart(title: string, pick: (i: number | null) => void, signal?: AbortSignal): Chart {
  const note = h("span", { class: "sk-chart-note" });
  const tip = h("div", { class: "sk-tip", "aria-hidden": "true" });
  const plot = h("div", { class: "sk-plot", role: "slider", tabindex: 0, "aria-orientation": "horizontal", ...QUIET });
  const el = h("figure", { class: "sk-chart" }, h("figcaption", {}, h("h4", {}, title), note), plot);
  let now: Drawing | null = null;
  let overlay = svg("g");
  let area = { left: 0, width: 1, height: 1 };
  let marked: number | null = null;

  const points = () => (now ? (now.bars ? now.x.length - 1 : now.x.length) : 0);
  const centre = (i: number) => (now?.bars ? ((now.x[i] ?? 0) + (now.x[i + 1] ?? 0)) / 2 : (now?.x[i] ?? 0));
  const nearest = (clientX: number): number | null => {
    const box = plot.getBoundingClientRect();
    const at = (clientX - box.left - area.left) / area.width;
    let best: number | null = null;
    for (let i = 0; i < points(); i++)
      if (best === null || Math.abs(centre(i) - at) < Math.abs(centre(best) - at)) best = i;
    return best;
  };
  const move = (event: PointerEvent) => pick(nearest(event.clientX));
  plot.addEventListener("pointermove", move);
  plot.addEventListener("pointerdown", move);
  plot.addEventListener("pointerleave", () => pick(null));
  plot.addEventListener("blur", () => pick(null));
  plot.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || points() === 0) return;
    const last = points() - 1;
    const at = marked ?? last;
    const big = Math.max(1, Math.round(points() / 10));
    const to = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      PageDown: at - big,
      PageUp: at + big,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined && (event.key !== "Escape" || marked === null)) return;
    event.preventDefault();
    event.stopPropagation();
    pick(to === undefined ? null : Math.max(0, Math.min(last, to)));
  });

  const redraw = () => {
    const drawing = now;
    plot.replaceChildren();
    if (!drawing) return;
    const width = Math.max(160, plot.clientWidth || 280);
    const labels = drawing.y.ticks.map((tick) => drawing.y.label(tick));
    const left = 10 + 6.3 * Math.max(2, ...labels.map((text) => text.length));
    area = { left, width: width - left - RIGHT, height: HEIGHT - TOP - BOTTOM };
    const base = TOP + area.height;
    const px = (x: number) => left + x * area.width;
    const py = (v: number) => base - drawing.y.at(v) * area.height;
    const picture = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    drawing.y.ticks.forEach((tick, i) => {
      picture.append(
        svg("line", { x1: left, x2: left + area.width, y1: py(tick), y2: py(tick), class: "sk-grid" }),
        svg("text", { x: left - 6, y: py(tick) + 3.5, "text-anchor": "end" }, labels[i]),
      );
    });
    picture.append(svg("line", { x1: left, x2: left + area.width, y1: base, y2: base, class: "sk-axis" }));
    let free = -Infinity; // the right end of the last label: labels never touch
    for (const { at, label } of drawing.xTicks) {
      const half = 3.2 * label.length;
      const anchor = px(at) + half > width ? "end" : "middle";
      const middle = anchor === "end" ? width - half : px(at);
      picture.append(svg("line", { x1: px(at), x2: px(at), y1: base, y2: base + 4, class: "sk-axis" }));
      if (middle - half < free + 6) continue;
      free = middle + half;
      picture.append(svg("text", { x: anchor === "end" ? width : px(at), y: base + 15, "text-anchor": anchor }, label));
    }
    picture.append(svg("text", { x: left + area.width / 2, y: HEIGHT - 5, "text-anchor": "middle" }, drawing.xTitle));
    const inside = svg("svg", {
      x: left - 4,
      y: TOP - 4,
      width: area.width + 8,
      height: area.height + 8,
      overflow: "hidden",
    });
    const shift = svg("g", { transform: `translate(${4 - left} ${4 - TOP})` });
    for (const { values, look } of drawing.lines)
      shift.append(...(drawing.bars ? bars(drawing, values, look, px, py) : line(drawing, values, look, px, py)));
    overlay = svg("g", { class: "sk-cursor" });
    inside.append(shift);
    picture.append(inside, overlay);
    plot.append(picture, tip);
  };

  const mark = (i: number | null, words: readonly Node[] | null, spoken: string) => {
    marked = i;
    overlay.replaceChildren();
    const last = points() - 1;
    plot.setAttribute("aria-valuemin", "1");
    plot.setAttribute("aria-valuemax", String(Math.max(1, last + 1)));
    plot.setAttribute("aria-valuenow", String((i ?? Math.max(0, last)) + 1));
    plot.setAttribute("aria-valuetext", spoken);
    tip.hidden = i === null || words === null;
    if (i === null || !now || i > last) return;
    const base = TOP + area.height;
    const x = area.left + centre(i) * area.width;
    overlay.append(svg("line", { x1: x, x2: x, y1: TOP, y2: base }));
    if (!now.bars) {
      for (const { values, look } of now.lines) {
        const at = now.y.at(values[i] ?? NaN);
        if (at >= -0.01 && at <= 1.01)
          overlay.append(svg("circle", { cx: x, cy: base - at * area.height, r: 3.5, ...paint(look, "fill") }));
      }
    }
    if (words === null) return;
    tip.replaceChildren(...words);
    const right = centre(i) > 0.5;
    tip.style.left = right ? "auto" : `${x + 8}px`;
    tip.style.right = right ? `${Math.max(0, plot.clientWidth - x + 8)}px` : "auto";
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
    el,
    mark,
    draw(drawing) {
      now = drawing;
      plot.setAttribute("aria-label", `${title}${drawing ? `: ${drawing.label}` : ""}`);
      note.textContent = drawing?.notes.join(", ") ?? "";
      redraw();
    },
  };
}

function paint(look: number, what: "stroke" | "fill"): Record<string, string> {
  const { stroke, dash } = look < 0 ? { stroke: "var(--sk-fg)", dash: "" } : style(look);
  return what === "fill"
    ? { style: `fill: ${stroke}` }
    : { style: `stroke: ${stroke}`, "stroke-dasharray": dash || "none" };
}

/** One path with gaps where a value has no place; a point without neighbours is a dot. */
function line(
  drawing: Drawing,
  values: ArrayLike<number>,
  look: number,
  px: (x: number) => number,
  py: (v: number) => number,
): Element[] {
  let path = "";
  const dots: Element[] = [];
  const placed = (i: number) => i >= 0 && i < drawing.x.length && Number.isFinite(drawing.y.at(values[i] ?? NaN));
  for (let i = 0; i < drawing.x.length; i++) {
    if (!placed(i)) continue;
    const [x, y] = [px(drawing.x[i] ?? 0), Math.min(1e4, py(values[i] ?? 0))];
    if (!placed(i - 1) && !placed(i + 1))
      dots.push(svg("circle", { cx: x, cy: y, r: 3, class: "sk-dot", ...paint(look, "fill") }));
    else path += `${placed(i - 1) ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  return path ? [svg("path", { d: path, class: "sk-line-path", ...paint(look, "stroke") }), ...dots] : dots;
}

function bars(
  drawing: Drawing,
  values: ArrayLike<number>,
  look: number,
  px: (x: number) => number,
  py: (v: number) => number,
): Element[] {
  const base = py(0);
  if (drawing.lines.length > 1) {
    let path = "";
    const empty = (i: number) => !((values[i] ?? 0) > 0);
    for (let i = 0; i < drawing.x.length - 1; i++) {
      if (empty(i)) continue; // nothing along the axis, where every outline would lie on the others
      const [from, to, y] = [px(drawing.x[i] ?? 0), px(drawing.x[i + 1] ?? 0), py(values[i] ?? 0)];
      const [begin, end] = [
        empty(i - 1) ? `M${from.toFixed(1)} ${base.toFixed(1)}` : "",
        empty(i + 1) ? `V${base.toFixed(1)}` : "",
      ];
      path += `${begin}V${y.toFixed(1)}H${to.toFixed(1)}${end}`;
    }
    return [svg("path", { d: path, class: "sk-line-path", ...paint(look, "stroke") })];
  }
  const out: Element[] = [];
  for (let i = 0; i < drawing.x.length - 1; i++) {
    const value = values[i] ?? 0;
    if (!(value > 0)) continue;
    const [from, to, y] = [px(drawing.x[i] ?? 0), px(drawing.x[i + 1] ?? 0), Math.min(py(value), base - 1)];
    out.push(svg("rect", { x: from + 0.5, y, width: Math.max(1, to - from - 1), height: base - y, class: "sk-bar" }));
  }
  return out;
}
