// The text itself: a span for each token, laid out in blocks that the browser skips while they are out of sight, drawn
// and coloured in pieces.

import { h, NO_SHORTCUTS, rovingIndex } from "../shared/dom";
import { formatNumber, formatPercent } from "../shared/numbers";
import {
  characterToken,
  countLineBreaks,
  textDirection,
  tokenSpeech,
  tokenText,
  tokenWithBytes,
} from "../shared/tokens";
import { inPieces } from "./frames";
import type { Colouring, TextFeatures } from "./standouts";
import { type Model, N_HUES, ofMaximum, spokenName } from "./state";

const PIECE = 1200; // tokens drawn, or coloured, at once
const LABELS = 800; // tokens described at once
const BLOCK = 150; // tokens a block has at least before it ends at a line break
const ALONE = 100; // place of a feature that is shown alone
const LONG = 1000; // tokens from which colours change without a transition

export interface TextView {
  element: HTMLElement;
  n: () => number;
  /** Draws the tokens again. */
  draw(): void;
  /** Colours and describes them; the excluded ones are marked. */
  colour(colouring: Colouring, features: TextFeatures): void;
  /** Marks the selected token; its tab stop is `tabStop`. */
  select(selected: number, tabStop: number): void;
  focus(position: number): void;
  positionOf(target: EventTarget | null): number;
  nextPosition(event: KeyboardEvent, position: number): number | null;
}

export function textView(model: Model): TextView {
  const element = h("div", { class: "sk-tokens", role: "group" });
  const template = h("span", { role: "button", tabindex: -1, "aria-pressed": "false", ...NO_SHORTCUTS });
  let spans: HTMLElement[] = [];
  let heats = new Float32Array(0);
  let slots = new Int16Array(0);
  let excludedNow: boolean[] = [];
  let cancel: (() => void)[] = [];
  let block: HTMLElement | null = null;
  let blockLength = 0;
  let marked = { selected: -1, tabStop: -1 };

  const stop = () => {
    for (const each of cancel) each();
    cancel = [];
  };
  const makeSpan = (i: number): HTMLElement => {
    const tokens = model.get("tokens");
    const continued = characterToken(tokens, i) !== i;
    const span = template.cloneNode(false) as HTMLElement;
    span.className = continued ? "sk-token sk-continued" : "sk-token";
    span.textContent = continued ? "" : tokenText(tokens[i] ?? "") || "\u2205";
    span.dataset.i = String(i);
    if (model.get("bytes")[String(i)] !== undefined) span.title = tokenWithBytes(tokens, i, model.get("bytes"));
    if (i === marked.tabStop) span.tabIndex = 0;
    if (i === marked.selected) span.setAttribute("aria-pressed", "true");
    return span;
  };
  const append = (from: number, to: number) => {
    const tokens = model.get("tokens");
    for (let i = from; i < to; i++) {
      if (block === null) {
        block = h("div", { class: "sk-block" });
        element.append(block);
        blockLength = 0;
      }
      const span = makeSpan(i);
      spans.push(span);
      const n = countLineBreaks(tokens[i] ?? "");
      block.append(span, ...Array.from({ length: n }, () => h("br")));
      if (n > 0 && ++blockLength >= BLOCK) block = null;
      else blockLength++;
    }
  };

  const paint = (colouring: Colouring, from: number, to: number) => {
    const excluded = model.get("excluded");
    for (let i = from; i < Math.min(to, spans.length); i++) {
      const span = spans[i] as HTMLElement;
      const place = colouring.slot[i] ?? -1;
      const [heat, slot] = [colouring.heat[i] ?? 0, place >= 0 && colouring.shown.length === 1 ? ALONE : place];
      if (heats[i] !== heat) span.style.setProperty("--a", heat.toFixed(3));
      heats[i] = heat;
      if (slots[i] !== slot) {
        if (slot < 0) delete span.dataset.slot;
        else span.dataset.slot = slotName(place, colouring.shown.length);
      }
      slots[i] = slot;
      const muted = Boolean(excluded[i]);
      if (excludedNow[i] !== muted) span.classList.toggle("sk-excluded", muted);
      excludedNow[i] = muted;
    }
  };

  const label = (i: number, colouring: Colouring, features: TextFeatures): string => {
    const tokens = model.get("tokens");
    const excluded = model.get("excluded")[i];
    const token = tokens[characterToken(tokens, i)] ?? "";
    const seen = tokenText(token); // what is shown by its code is said so, not as a control character
    const spoken = seen.includes("<U+") ? seen.trim() : tokenSpeech(token);
    const part = model.get("bytes")[String(i)] === undefined ? "" : " in part";
    const head = `Token ${i}, ${spoken}${part}:`;
    if (excluded) return `${head} not counted, ${excluded}`;
    const strongest = features.activations.topFeatures(i, 3);
    const also = strongest.length > 0 ? `; strongest features ${strongest.map((f) => f.feature).join(", ")}` : "";
    return `${head} ${spokenColour(i, colouring, features)}${also}`;
  };
  const spokenColour = (i: number, colouring: Colouring, features: TextFeatures): string => {
    const colour = model.get("colour_by");
    const feature = colour === "standout" ? colouring.shown[colouring.slot[i] ?? -1]?.feature : model.get("feature");
    if (colour === "standout" && feature === undefined) return "nothing that is shown stands out";
    const value = features.activations.activationAt(i, feature ?? null);
    const activation = `activation ${value > 0 ? formatNumber(value) : 0}`;
    if (feature === null || feature === undefined) return activation;
    const relative = features.relative(feature, value);
    const share = relative === null || value <= 0 ? "" : `, ${formatPercent(relative)} ${ofMaximum(model)}`;
    return `feature ${feature}${spokenName(model, feature)}, ${activation}${share}`;
  };

  const firstVisible = (): number => {
    if (element.scrollTop === 0 || spans.length <= PIECE) return 0;
    let [low, high] = [0, spans.length - 1];
    const top = element.getBoundingClientRect().top;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((spans[middle] as HTMLElement).getBoundingClientRect().bottom < top) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const mark = (position: number, selected: boolean, tabStop: boolean) => {
    const span = spans[position];
    span?.setAttribute("aria-pressed", String(selected));
    if (span) span.tabIndex = tabStop ? 0 : -1;
  };

  return {
    element,
    n: () => model.get("tokens").length,
    draw() {
      stop();
      const tokens = model.get("tokens");
      const excluded = model.get("excluded");
      spans = [];
      block = null;
      heats = new Float32Array(tokens.length).fill(Number.NaN);
      slots = new Int16Array(tokens.length).fill(-1);
      excludedNow = new Array<boolean>(tokens.length).fill(false);
      element.replaceChildren();
      element.scrollTop = 0;
      element.dir = textDirection(tokens.filter((_, i) => !excluded[i] || excluded[i] === "not read"));
      element.setAttribute("aria-label", `Text of ${tokens.length} tokens`);
      element.classList.toggle("sk-long", tokens.length > LONG);
      if (tokens.length === 0) element.append(h("p", { class: "sk-empty" }, "No text yet."));
    },
    colour(colouring, features) {
      stop();
      const n = model.get("tokens").length;
      const from = firstVisible();
      const work = (first: number, last: number) => {
        if (spans.length < last) append(spans.length, last);
        paint(colouring, first, last);
      };
      cancel.push(inPieces(n, PIECE, spans.length < n ? 0 : from, work));
      const describe = (first: number, last: number) => {
        for (let i = first; i < Math.min(last, spans.length); i++) {
          spans[i]?.setAttribute("aria-label", label(i, colouring, features));
        }
      };
      cancel.push(inPieces(n, LABELS, from, describe));
    },
    select(selected, tabStop) {
      mark(marked.selected, false, false);
      mark(marked.tabStop, false, false);
      marked = { selected, tabStop };
      mark(tabStop, tabStop === selected, true);
      if (selected !== tabStop) mark(selected, true, false);
    },
    focus(position) {
      const n = model.get("tokens").length;
      if (spans.length < Math.min(n, position + 1)) append(spans.length, position + 1);
      spans[position]?.focus();
    },
    positionOf(target) {
      const span = target instanceof Element ? target.closest<HTMLElement>(".sk-token") : null;
      return span ? Number(span.dataset.i) : -1;
    },
    nextPosition(event, position) {
      const [right, left] = element.dir === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
      const keys = { forward: [right, "ArrowDown"], backward: [left, "ArrowUp"] };
      return rovingIndex(event, position, model.get("tokens").length, keys);
    },
  };
}

/** The style of a place in the legend: six hues, then the same with a broken underline; one feature alone has none. */
export const slotName = (slot: number, nShown: number): string =>
  nShown === 1 ? "one" : `${slot % N_HUES}${slot >= N_HUES ? " broken" : ""}`;
