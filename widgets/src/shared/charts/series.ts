// How one series of values is drawn: as a line, as the outline of a histogram, or as bars.

import { svg } from "../dom";
import type { PlotArea } from "./axes";
import type { Scale } from "./scale";

const COLOURS = ["var(--sk-orange)", "var(--sk-blue)", "var(--sk-grey)"];
const DASHES = ["none", "7 3", "2 3", "8 3 2 3"];

type Values = ArrayLike<number>;

/** Colour and dashes of series i: three colours, then the same dashed, dotted, dash-dotted; -1 stands for all series. */
function style(i: number): { colour: string; dash: string } {
  if (i < 0) return { colour: "var(--sk-fg)", dash: "none" };
  return { colour: COLOURS[i % 3] ?? "", dash: DASHES[Math.floor(i / 3) % DASHES.length] ?? "none" };
}

const stroke = (i: number) => ({ style: `stroke: ${style(i).colour}`, "stroke-dasharray": style(i).dash });

/** A short piece of series i's line, for a legend. */
export function swatch(i: number): SVGElement {
  const picture = svg("svg", { width: 26, height: 10, "aria-hidden": "true", class: "sk-swatch" });
  picture.append(svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, ...stroke(i) }));
  return picture;
}

export const dot = (i: number, cx: number, cy: number, r: number, className = ""): SVGElement =>
  svg("circle", { cx, cy, r, class: className || null, style: `fill: ${style(i).colour}` });

/** One path with gaps where a value has no position; a point without neighbours is a dot. */
export function line(i: number, x: readonly number[], values: Values, y: Scale, area: PlotArea): Element[] {
  let path = "";
  const dots: Element[] = [];
  const height = (p: number) => (p >= 0 && p < x.length ? y.position(values[p] ?? NaN) : NaN);
  const drawn = (p: number) => Number.isFinite(height(p));
  for (let p = 0; p < x.length; p++) {
    if (!drawn(p)) continue;
    const [px, py] = [area.x(x[p] ?? 0), Math.min(1e4, area.y(height(p)))];
    if (!drawn(p - 1) && !drawn(p + 1)) dots.push(dot(i, px, py, 3, "sk-dot"));
    else path += `${drawn(p - 1) ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`;
  }
  return path ? [svg("path", { d: path, class: "sk-line-path", ...stroke(i) }), ...dots] : dots;
}

/** The outline of a histogram with bins from x[p] to x[p + 1]; empty bins have none, where all outlines would coincide. */
export function outline(i: number, x: readonly number[], values: Values, y: Scale, area: PlotArea): Element[] {
  let path = "";
  const bottom = area.y(y.position(0)).toFixed(1);
  const empty = (p: number) => !((values[p] ?? 0) > 0);
  for (let p = 0; p < x.length - 1; p++) {
    if (empty(p)) continue;
    const [from, to] = [area.x(x[p] ?? 0), area.x(x[p + 1] ?? 0)];
    const [begin, end] = [empty(p - 1) ? `M${from.toFixed(1)} ${bottom}` : "", empty(p + 1) ? `V${bottom}` : ""];
    path += `${begin}V${area.y(y.position(values[p] ?? 0)).toFixed(1)}H${to.toFixed(1)}${end}`;
  }
  return [svg("path", { d: path, class: "sk-line-path", ...stroke(i) })];
}

/** A bar for each bin that is not empty, with `title(p)` as its tooltip. */
export function bars(
  x: readonly number[],
  values: Values,
  y: Scale,
  area: PlotArea,
  title?: (p: number) => string,
): Element[] {
  const bottom = area.y(y.position(0));
  const out: Element[] = [];
  for (let p = 0; p < x.length - 1; p++) {
    const value = values[p] ?? 0;
    if (!(value > 0)) continue;
    const [from, to] = [area.x(x[p] ?? 0), area.x(x[p + 1] ?? 0)];
    const top = Math.min(area.y(y.position(value)), bottom - 1);
    const width = Math.max(1, to - from - 1);
    const rect = svg("rect", { x: from + 0.5, y: top, width, height: bottom - top, class: "sk-bar" });
    if (title) rect.append(svg("title", {}, title(p)));
    out.push(rect);
  }
  return out;
}
