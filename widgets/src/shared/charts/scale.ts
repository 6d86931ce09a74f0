// Where a value lies on an axis, and which ticks the axis has. Pure: numbers in, numbers and text out.

import { formatCount, formatExponent, formatTick } from "../numbers";

export interface Scale {
  low: number;
  high: number;
  log: boolean;
  ticks: number[];
  /** 0 at the low end, 1 at the high end; NaN for a value that is not on the axis. */
  position(value: number): number;
  label(tick: number): string;
}

export interface ScaleOptions {
  zero?: boolean; // the axis begins at 0
  log?: boolean; // logarithmic where positive values span a decade
  floor?: number; // values below are clipped
  percent?: boolean; // values are fractions, shown in percent
  n?: number; // about this many ticks
}

/** Round numbers between low and high, about n of them. */
export function linearTicks(low: number, high: number, n = 4): number[] {
  const raw = (high - low) / n;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) ?? raw;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** 1, 2, 5 times powers of ten between low and high; only powers, about five, where there are many. */
export function logTicks(low: number, high: number): number[] {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const decades = Math.log10(high / low);
  const step = Math.max(1, Math.ceil(Math.floor(decades) / 5));
  const multiples = decades < 1.6 ? [1, 2, 5] : decades < 2.6 ? [1, 3] : [1];
  const out: number[] = [];
  for (let e = from; e <= to; e += step) for (const m of multiples) out.push(Number(`${m}e${e}`));
  return out.filter((v) => v >= low * 0.999 && v <= high * 1.001);
}

/** A scale that holds all finite `values`, with a margin. */
export function axisScale(values: Iterable<number>, options: ScaleOptions = {}): Scale {
  const known = [...values].filter(Number.isFinite);
  let low = known.length ? Math.min(...known) : 0;
  let high = known.length ? Math.max(...known) : 1;
  if (options.log && low > 0 && high / low >= 10) {
    const [a, b] = [Math.log10(low), Math.log10(high)];
    const margin = 0.05 * (b - a);
    return logScale(10 ** (a - margin), 10 ** (b + margin), (v) => formatTick(v, v, options.percent));
  }
  const clipped = options.floor !== undefined && low < options.floor && high > options.floor;
  if (clipped) low = options.floor as number;
  if (options.zero) {
    low = Math.min(low, 0);
    high = high > 0 ? high * 1.06 : options.percent ? 0.01 : 1;
  } else {
    const margin = high > low ? 0.06 * (high - low) : Math.abs(low) * 0.1 || 1;
    [low, high] = [clipped ? low : low - margin, high + margin];
  }
  const ticks = linearTicks(low, high, options.n ?? 5);
  const step = (ticks[1] ?? high) - (ticks[0] ?? low);
  const tiny = !options.percent && Math.max(Math.abs(low), Math.abs(high)) < 0.01; // one notation along an axis
  const label = (v: number) => (tiny ? formatExponent(v) : formatTick(v, step, options.percent));
  return { low, high, log: false, ticks, position: (v) => (v - low) / (high - low), label };
}

function logScale(low: number, high: number, label: (tick: number) => string): Scale {
  const [bottom, top] = [Math.log10(low), Math.log10(high)];
  const position = (v: number) => (v > 0 ? (Math.log10(v) - bottom) / (top - bottom) : NaN);
  return { low, high, log: true, ticks: logTicks(low, high), position, label };
}

/** A logarithmic scale for counts up to `max`: zero lies at the bottom and one is a visible bar. */
export function countScale(max: number): Scale {
  const scale = logScale(0.5, Math.max(max, 2), (n) => (n < 1e4 ? formatCount(n) : formatTick(n, n)));
  return { ...scale, ticks: logTicks(1, Math.max(max, 1)), position: (n) => (n > 0 ? scale.position(n) : 0) };
}
