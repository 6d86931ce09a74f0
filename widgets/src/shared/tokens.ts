// How tokens are shown. Everything here returns plain strings for textContent, never HTML.

const INVISIBLE_CHARACTERS = /(?![\t\n\r])[\p{Cc}\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** A token in running text: line breaks and tabs as glyphs, invisible and direction-changing characters by code. */
export function tokenText(token: string): string {
  return token
    .replace(/\r\n/g, "\u21b5")
    .replace(/\n/g, "\u21b5")
    .replace(/\r/g, "\u240d")
    .replace(/\t/g, "\u21e5")
    .replace(INVISIBLE_CHARACTERS, (c) => `<U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);
}

/** A feature's name: like a token, but with the joiners that emoji and some scripts are spelt with. */
export const nameText = (name: string): string =>
  name
    .split(/([\u200c\u200d])/)
    .map((part, i) => (i % 2 ? part : tokenText(part)))
    .join("");

/** A token outside running text, where its spaces must be visible as well. */
export const tokenLabel = (token: string): string =>
  token === "" ? "(empty)" : tokenText(token).replace(/[ \u00a0]/g, "\u2423");

/** The token that holds the character which token i goes on with, or token i itself: a character spelt in several
 * tokens belongs to the first of them, and the others have no text. */
export function characterToken(tokens: readonly string[], i: number): number {
  let first = i;
  while (first > 0 && tokens[first] === "") first--;
  return tokens[first] === "" ? i : first;
}

/** What a token is part of and the bytes it holds of it: "🦙 <0x9F>"; the token alone where it holds all of it. */
export function tokenWithBytes(tokens: readonly string[], i: number, bytes: Readonly<Record<string, string>>): string {
  const label = tokenLabel(tokens[characterToken(tokens, i)] ?? "");
  const part = bytes[String(i)];
  return part === undefined || part === tokens[i] ? label : `${label} ${part}`;
}

/** A token as a screen reader should say it. */
export function tokenSpeech(token: string): string {
  if (token === "") return "empty token";
  if (/^ +$/.test(token)) return token.length === 1 ? "space" : `${token.length} spaces`;
  const words = token
    .replace(/\r?\n/g, " line break ")
    .replace(/\t/g, " tab ")
    .replace(INVISIBLE_CHARACTERS, " control character ");
  return words.trim().replace(/\s+/g, " ");
}

export const countLineBreaks = (token: string): number => (token.match(/\r\n|\n|\r/g) ?? []).length;

/** Writing direction by the majority of letters, so that one Latin control token does not turn Hebrew text around. */
export function textDirection(tokens: readonly string[]): "ltr" | "rtl" {
  let balance = 0;
  for (const token of tokens) {
    balance += (token.match(/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/g) ?? []).length;
    balance -= (token.match(/[A-Za-z\u00c0-\u024f\u0370-\u052f\u3040-\u9fff]/g) ?? []).length;
  }
  return balance > 0 ? "rtl" : "ltr";
}
