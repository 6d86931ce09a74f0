// How tokens and numbers are written. Everything here returns plain strings for textContent, never HTML.

const INVISIBLE = /(?![\t\n\r])[\p{Cc}\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** A token as shown in running text: line breaks and tabs as glyphs, invisible and direction-changing characters by code. */
export function glyphs(token: string): string {
  return token
    .replace(/\r\n/g, "\u21b5")
    .replace(/\n/g, "\u21b5")
    .replace(/\r/g, "\u240d")
    .replace(/\t/g, "\u21e5")
    .replace(INVISIBLE, (c) => `<U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);
}

/** A token on its own, where its spaces must be seen as well. */
export const alone = (token: string): string =>
  token === "" ? "(empty)" : glyphs(token).replace(/[ \u00a0]/g, "\u2423");

/** A token as a screen reader should say it. */
export function spoken(token: string): string {
  if (token === "") return "empty token";
  if (/^ +$/.test(token)) return token.length === 1 ? "space" : `${token.length} spaces`;
  const words = token
    .replace(/\r?\n/g, " line break ")
    .replace(/\t/g, " tab ")
    .replace(INVISIBLE, " control character ");
  return words.trim().replace(/\s+/g, " ");
}

export const lineBreaks = (token: string): number => (token.match(/\r\n|\n|\r/g) ?? []).length;

/** Writing direction by the majority of letters, so that one Latin control token does not turn Hebrew text around. */
export function direction(tokens: readonly string[]): "ltr" | "rtl" {
  let balance = 0;
  for (const token of tokens) {
    balance += (token.match(/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/g) ?? []).length;
    balance -= (token.match(/[A-Za-z\u00c0-\u024f\u0370-\u052f\u3040-\u9fff]/g) ?? []).length;
  }
  return balance > 0 ? "rtl" : "ltr";
}

/** Three significant digits without an exponent for everyday sizes: 0.0123, 4.57, 137, 12,300. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return minus(value.toExponential(1));
  if (size >= 1000) return minus(Math.round(value).toLocaleString("en-GB"));
  return minus(String(Number(value.toPrecision(3))));
}

/** Three significant digits with their zeros, for columns: 0.240, 1.50, 137. */
export function column(value: number | null | undefined): string {
  const text = number(value);
  const size = Math.abs(value ?? 0);
  return size >= 1e-4 && size < 100 ? minus((value ?? 0).toPrecision(3)) : text;
}

/** Numbers for the ends of intervals `step` wide: as many decimals as tell neighbours apart. */
export const edge = (value: number, step: number): string =>
  step > 0 ? value.toFixed(Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(step))))) : number(value);

export const count = (value: number | null | undefined): string =>
  value === null || value === undefined || !Number.isFinite(value) ? "\u2013" : value.toLocaleString("en-GB");

/** A share of tokens: 3.1 %, 0.042 %, "0" when it never happens. */
export function share(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  return value === 0 ? "0" : `${number(value * 100)} %`;
}

const minus = (text: string): string => text.replace("-", "\u2212");
