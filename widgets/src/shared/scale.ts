// Where a value lies on an axis, and how its ticks read. Pure: numbers in, numbers and words out.

import { number } from "./text";

export interface Scale {
  low: number;
  high: number;
  log: boolean;
  ticks: number[];
  /** 0 at the low end, 1 at the high end; NaN for what has no place. */
  at(value: number): number;
  label(tick: number): string;
}

export interface ScaleOptions {
  zero?: boolean; // the axis begins at 0
  log?: boolean; // logarithmic where positive values span a decade
  floor?: number; // values below are cut off
  percent?: boolean; // values are shares
  n?: number; // about so many ticks
}

const finite = (values: Iterable<number>): number[] => [...values].filter(Number.isFinite);

/** Round numbers between low and high, about n of them. */
export function between(low: number, high: number, n = 4): number[] {
  const raw = (high - low) / n;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) ?? raw;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** 1, 2, 5 times powers of ten between low and high; only powers where there are many. */
export function betweenLog(low: number, high: number): number[] {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const decades = Math.log10(high / low);
  const step = Math.max(1, Math.ceil(decades / 5));
  const marks = decades < 1.6 ? [1, 2, 5] : decades < 2.6 ? [1, 3] : [1];
  const out: number[] = [];
  for (let e = from; e <= to; e += step) for (const m of marks) out.push(Number(`${m}e${e}`));
  return out.filter((v) => v >= low * 0.999 && v <= high * 1.001);
}

export function scale(values: Iterable<number>, options: ScaleOptions = {}): Scale {
  const known = finite(values);
  let low = known.length ? Math.min(...known) : 0;
  let high = known.length ? Math.max(...known) : 1;
  if (options.log && low > 0 && high / low >= 10) {
    const [a, b] = [Math.log10(low), Math.log10(high)];
    const pad = 0.05 * (b - a);
    const [bottom, top] = [a - pad, b + pad];
    const ticks = betweenLog(10 ** bottom, 10 ** top);
    const at = (v: number) => (v > 0 ? (Math.log10(v) - bottom) / (top - bottom) : NaN);
    return { low: 10 ** bottom, high: 10 ** top, log: true, ticks, at, label: (v) => short(v, v, options.percent) };
  }
  const cut = options.floor !== undefined && low < options.floor && high > options.floor;
  if (cut) low = options.floor as number;
  if (options.zero) {
    low = Math.min(low, 0);
    high = high > 0 ? high * 1.06 : options.percent ? 0.01 : 1;
  } else if (high > low) {
    const pad = 0.06 * (high - low);
    [low, high] = [cut ? low : low - pad, high + pad];
  } else {
    const pad = Math.abs(low) * 0.1 || 1;
    [low, high] = [low - pad, high + pad];
  }
  const ticks = between(low, high, options.n ?? 5);
  const step = (ticks[1] ?? high) - (ticks[0] ?? low);
  const tiny = !options.percent && Math.max(Math.abs(low), Math.abs(high)) < 0.01; // one notation along an axis
  const label = (v: number) => (tiny ? exponent(v) : short(v, step, options.percent));
  return { low, high, log: false, ticks, at: (v) => (v - low) / (high - low), label };
}

/** A tick: 0.25, 40, 12k, 3M, 2e-5; as many decimals as `step` needs. */
export function short(value: number, step: number, percent = false): string {
  if (percent) return `${trimmed(value * 100, step * 100)} %`;
  const size = Math.abs(value);
  if (value === 0) return "0";
  for (const [unit, letter] of UNITS)
    if (size >= unit * (unit === 1e3 ? 10 : 1)) return `${trimmed(value / unit, step / unit)}${letter}`;
  if (size < 1e-3) return exponent(value);
  return trimmed(value, step);
}

/** 4e-4, 2.15e-5, 0. */
export const exponent = (value: number): string =>
  value === 0 ? "0" : minus(Number(value.toPrecision(3)).toExponential());

const UNITS: [number, string][] = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
];
const minus = (text: string): string => text.replace(/-/g, "\u2212");
function trimmed(value: number, step: number): string {
  const decimals = Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(step) || 1))));
  return minus(String(Number(value.toFixed(decimals))));
}

/** A count of tokens in running text: 950, 12.3k, 4.56M. */
export function compact(value: number): string {
  if (!Number.isFinite(value)) return number(value);
  for (const [unit, letter] of UNITS)
    if (Math.abs(value) >= unit) return `${Number((value / unit).toPrecision(3))}${letter}`;
  return String(Math.round(value));
}

/** Seconds, minutes or hours, roughly. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "\u2013";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
