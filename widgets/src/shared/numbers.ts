// How numbers are written. Everything here returns plain strings for textContent, never HTML.

type Maybe = number | null | undefined;

const MISSING = "\u2013";
const UNITS: [number, string][] = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
];

const isNumber = (value: Maybe): value is number => typeof value === "number" && Number.isFinite(value);
const minus = (text: string): string => text.replace(/-/g, "\u2212");

/** Three significant digits without an exponent for everyday sizes: 0.0123, 4.57, 137, 12,300. */
export function formatNumber(value: Maybe): string {
  if (!isNumber(value)) return MISSING;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return minus(value.toExponential(1));
  if (size >= 1000) return minus(Math.round(value).toLocaleString("en-GB"));
  return minus(String(Number(value.toPrecision(3))));
}

/** Three significant digits with trailing zeros, so that a column of them lines up: 0.240, 1.50, 137. */
export function formatAligned(value: Maybe): string {
  const size = Math.abs(value ?? 0);
  return size >= 1e-4 && size < 100 ? minus((value ?? 0).toPrecision(3)) : formatNumber(value);
}

/** So many decimals: 1.90, \u22120.05. */
export const formatFixed = (value: Maybe, decimals: number): string =>
  isNumber(value) ? minus(value.toFixed(decimals)) : MISSING;

/** What stands in a number input: digits without those that 32-bit values or their conversion add. */
export const inputNumber = (value: number, digits = 6): string => String(Number(value.toPrecision(digits)));

/** An edge of a bin that is `width` wide: as many decimals as distinguish neighbouring edges. */
export const formatBinEdge = (value: number, width: number): string =>
  width > 0 ? value.toFixed(Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(width))))) : formatNumber(value);

export const formatCount = (value: Maybe): string => (isNumber(value) ? value.toLocaleString("en-GB") : MISSING);

/** A count with its noun: 1 token, 1,200 tokens. */
export const formatPlural = (n: number, noun: string): string => `${formatCount(n)} ${noun}${n === 1 ? "" : "s"}`;

/** A fraction in percent: 3.1 %, 0.042 %, "0" for none. */
export function formatPercent(value: Maybe): string {
  if (!isNumber(value)) return MISSING;
  return value === 0 ? "0" : `${formatNumber(value * 100)} %`;
}

/** A tick: 0.25, 40, 12k, 3M, 2e-5; as many decimals as `step`, the distance between ticks, needs. */
export function formatTick(value: number, step: number, percent = false): string {
  if (percent) return `${rounded(value * 100, step * 100)} %`;
  const size = Math.abs(value);
  if (value === 0) return "0";
  for (const [unit, letter] of UNITS) {
    if (size >= unit * (unit === 1e3 ? 10 : 1)) return `${rounded(value / unit, step / unit)}${letter}`;
  }
  return size < 1e-3 ? formatExponent(value) : rounded(value, step);
}

function rounded(value: number, step: number): string {
  const decimals = Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(step) || 1))));
  return minus(String(Number(value.toFixed(decimals))));
}

/** 4e-4, 2.15e-5, 0. */
export const formatExponent = (value: number): string =>
  value === 0 ? "0" : minus(Number(value.toPrecision(3)).toExponential());

/** A large count in running text: 950, 12.3k, 4.56M. */
export function formatCompact(value: number): string {
  if (!isNumber(value)) return MISSING;
  for (const [unit, letter] of UNITS) {
    if (Math.abs(value) >= unit) return `${Number((value / unit).toPrecision(3))}${letter}`;
  }
  return String(Math.round(value));
}

/** Seconds, minutes or hours, roughly. */
export function formatDuration(seconds: number): string {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
