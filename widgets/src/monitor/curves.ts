// The metrics a monitor plots against tokens: how each is read, written and drawn.

import type { Binary } from "../shared/arrays";
import { toFloat32 } from "../shared/arrays";
import type { ChartData } from "../shared/charts/interactive";
import { axisScale, linearTicks, type ScaleOptions } from "../shared/charts/scale";
import {
  formatAligned,
  formatCompact,
  formatCount,
  formatDuration,
  formatExponent,
  formatFixed,
  formatNumber,
  formatPercent,
  formatTick,
} from "../shared/numbers";
import type { MonitorColumns, MonitorState } from "./state";

export interface Curve {
  name: keyof MonitorColumns;
  title: string;
  heading: string; // in the table
  format: (value: number) => string;
  axis: ScaleOptions;
}

const curve = (
  name: Curve["name"],
  title: string,
  heading: string,
  format: Curve["format"],
  axis: ScaleOptions,
): Curve => ({
  name,
  title,
  heading,
  format,
  axis,
});
const threeDecimals = (value: number) => formatFixed(value, 3);

export const CURVES: readonly Curve[] = [
  curve("loss", "Loss", "Loss", formatAligned, { log: true }),
  curve("explained_variance", "Explained variance", "Explained var.", threeDecimals, { floor: -0.2 }),
  curve("l0", "Active features per token (L0)", "L0", formatNumber, { log: true, zero: true }),
  curve("dead_fraction", "Dead features", "Dead", formatPercent, { zero: true, percent: true }),
  curve("tokens_per_second", "Tokens per second", "Tokens/s", formatNumber, { zero: true }),
  curve("lr", "Learning rate", "Learning rate", formatExponent, { zero: true }),
];

/** A value in text, NaN and infinities included. */
export function formatValue(value: number | undefined, format: (value: number) => string): string {
  if (value === undefined) return "\u2013";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : "\u2212\u221e";
  return format(value);
}

/** One array per SAE from a column that holds them one after the other. */
export function splitColumn(column: Binary | undefined, nSteps: number, nSaes: number): Float32Array[] {
  const all = toFloat32(column);
  return Array.from({ length: nSaes }, (_, i) => all.slice(i * nSteps, (i + 1) * nSteps));
}

type XAxis = Pick<ChartData, "x" | "xTicks" | "xTitle">;

/** The horizontal axis of all curves: tokens seen, from 0 unless the values begin late. */
export function tokenAxis(tokens: Float64Array): XAxis {
  const first = tokens[0] ?? 0;
  const last = tokens[tokens.length - 1] ?? 0;
  const [from, to] = last > first ? [first < 0.2 * last ? 0 : first, last] : [last - 1, last + 1];
  const position = (t: number) => (t - from) / (to - from);
  const ticks = last > first ? linearTicks(from, to, 3) : [last];
  const step = (ticks[1] ?? last) - (ticks[0] ?? 0);
  const xTicks = ticks.map((t) => ({ position: position(t), label: formatTick(t, step || t) }));
  return { x: Array.from(tokens, position), xTicks, xTitle: "tokens seen" };
}

const equal = (a: Float32Array, b: Float32Array): boolean => a.every((v, i) => Object.is(v, b[i]));

/** One curve with a line per SAE, or a single line where all SAEs have the same values. */
export function curveData({ axis }: Curve, values: readonly Float32Array[], xAxis: XAxis): ChartData {
  const identical = values.length > 1 && values.every((v) => equal(v, values[0] as Float32Array));
  const shown = identical ? values.slice(0, 1) : values;
  const all = shown.flatMap((v) => Array.from(v));
  const y = axisScale(all, axis);
  const nBad = all.filter((v) => !Number.isFinite(v)).length;
  const notes = [
    y.log && "log scale",
    identical && "the same for all SAEs",
    !y.log && all.some((v) => v < y.low) && `clipped below ${y.label(axis.floor ?? y.low)}`,
    nBad > 0 && `${nBad} not finite`,
  ].filter((note): note is string => typeof note === "string");
  const series = shown.map((v, i) => ({ values: v, style: identical ? -1 : i }));
  return { ...xAxis, y, notes, series, description: "by tokens seen" };
}

type Progress = Pick<MonitorState, "status" | "step" | "n_steps" | "n_tokens" | "total_tokens" | "rate" | "seconds">;

/** Steps, tokens, rate and time in one line. */
export function progressText(state: Progress): string {
  const parts = [
    `step ${formatCount(state.step)} of ${formatCount(state.n_steps)}`,
    `${formatCompact(state.n_tokens)} of ${formatCompact(state.total_tokens)} tokens`,
  ];
  if (state.rate > 0) {
    const left = formatDuration((state.total_tokens - state.n_tokens) / state.rate);
    parts.push(`${formatCompact(state.rate)} tokens/s`);
    parts.push(state.status === "running" ? `about ${left} left` : `${formatDuration(state.seconds)} of training`);
  }
  return parts.join(" \u00b7 ");
}
