// The area a chart draws in, and its axes: grid lines, ticks, labels and titles.

import "./charts.css";
import { svg } from "../dom";
import type { Scale } from "./scale";

/** Where the data lies in a picture, in pixels. Positions run from 0 to 1, left to right and bottom to top. */
export class PlotArea {
  constructor(
    readonly left: number,
    readonly top: number,
    readonly width: number,
    readonly height: number,
  ) {}

  get right(): number {
    return this.left + this.width;
  }
  get bottom(): number {
    return this.top + this.height;
  }
  x(position: number): number {
    return this.left + position * this.width;
  }
  y(position: number): number {
    return this.bottom - position * this.height;
  }
}

export interface Axes {
  xTicks: readonly { position: number; label: string }[];
  xTitle: string;
  y: Scale;
  yTitle?: string;
}

const CHARACTER = 6.4; // pixels: the width of one character of a label, roughly

/** A picture of `width` by `height` pixels that holds the axes. */
export function drawAxes(area: PlotArea, width: number, height: number, axes: Axes): SVGSVGElement {
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  const line = (x1: number, x2: number, y1: number, y2: number, className: string) =>
    picture.append(svg("line", { x1, x2, y1, y2, class: className }));
  const text = (x: number, y: number, anchor: string, label: string, transform?: string) =>
    picture.append(svg("text", { x, y, "text-anchor": anchor, transform }, label));

  for (const tick of axes.y.ticks) {
    const y = area.y(axes.y.position(tick));
    line(area.left, area.right, y, y, "sk-grid");
    text(area.left - 6, y + 3.5, "end", axes.y.label(tick));
  }
  line(area.left, area.right, area.bottom, area.bottom, "sk-axis");
  let occupied = -Infinity; // the right end of the last label: labels never touch
  for (const { position, label } of axes.xTicks) {
    const x = area.x(position);
    const half = (CHARACTER * label.length) / 2;
    const anchor = x + half > width ? "end" : "middle";
    const centre = anchor === "end" ? width - half : x;
    line(x, x, area.bottom, area.bottom + 4, "sk-axis");
    if (centre - half < occupied + 6) continue;
    occupied = centre + half;
    text(anchor === "end" ? width : x, area.bottom + 15, anchor, label);
  }
  text(area.x(0.5), height - 5, "middle", axes.xTitle);
  if (axes.yTitle) text(10, area.y(0.5), "middle", axes.yTitle, `rotate(-90 10 ${area.y(0.5)})`);
  return picture;
}
