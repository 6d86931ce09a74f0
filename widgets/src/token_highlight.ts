// Text coloured by activation. All sparse activations of the text are here, so a recolouring needs no kernel.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./token_highlight.css";
import { tokenDetails } from "./highlight/details";
import { legend } from "./highlight/legend";
import type { HighlightState } from "./highlight/state";
import { SparseActivations } from "./shared/arrays";
import { h, NO_SHORTCUTS, rovingIndex } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange, setTraits } from "./shared/model";
import { formatNumber } from "./shared/numbers";
import { refusedLine } from "./shared/refused";
import {
  characterToken,
  countLineBreaks,
  textDirection,
  tokenSpeech,
  tokenText,
  tokenWithBytes,
} from "./shared/tokens";

function render({ model, el, signal }: RenderProps<HighlightState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-highlight");
  const head = legend(model);
  const text = h("div", { class: "sk-tokens", role: "group" });
  const details = h("div", { class: "sk-detail" });
  const status = h("output", { class: "sk-visually-hidden", "aria-live": "polite" });
  el.replaceChildren(refusedLine(model, signal), kernelOf(model, signal).element, head.element, text, details, status);

  let activations = SparseActivations.from(null);
  let spans: HTMLElement[] = [];
  let hovered = -1;
  let focused = -1;

  const selected = () => model.get("selected");
  const select = (position: number) => {
    const next = position === selected() ? -1 : position;
    setTraits<HighlightState>(model, { selected: next });
    const tokens = model.get("tokens");
    const token = tokenSpeech(tokens[characterToken(tokens, next)] ?? "");
    status.textContent = next < 0 ? "No token selected" : `Token ${next} selected: ${token}`;
  };

  let drawnDetails = "";
  const drawDetails = () => {
    const position = hovered >= 0 ? hovered : focused >= 0 ? focused : selected();
    const key = `${position} ${selected()} ${model.get("feature")}`;
    if (key === drawnDetails) return; // a chip must not be replaced between the press and the release of a mouse button
    drawnDetails = key;
    details.replaceChildren(...tokenDetails(model, activations, position));
  };

  const drawColours = () => {
    const tokens = model.get("tokens");
    const excluded = model.get("excluded");
    const bytes = model.get("bytes");
    const values = activations.activationsOf(model.get("feature"));
    const top = values.reduce((a, b) => Math.max(a, b), 0);
    const max = model.get("scale") ?? top;
    for (const [i, span] of spans.entries()) {
      const value = values[i] ?? 0;
      span.style.setProperty("--a", (max > 0 ? Math.min(1, Math.max(0, value / max)) : 0).toFixed(3));
      const strongest = activations.topFeatures(i, 3).map((f) => f.feature);
      const state = excluded[i] ? `not counted, ${excluded[i]}` : `activation ${value > 0 ? formatNumber(value) : 0}`;
      const features = strongest.length > 0 ? `; strongest features ${strongest.join(", ")}` : "";
      const spoken = tokenSpeech(tokens[characterToken(tokens, i)] ?? "");
      const part = bytes[String(i)] === undefined ? "" : " in part";
      span.setAttribute("aria-label", `Token ${i}, ${spoken}${part}: ${state}${features}`);
    }
    head.draw(top, max);
    drawnDetails = "";
    drawDetails();
  };

  const drawSelection = () => {
    const current = selected();
    const tabStop = current >= 0 && current < spans.length ? current : Math.max(0, focused);
    for (const [i, span] of spans.entries()) {
      span.setAttribute("aria-pressed", String(i === current));
      span.tabIndex = i === tabStop ? 0 : -1;
    }
    drawDetails();
  };

  const drawText = () => {
    const tokens = model.get("tokens");
    const excluded = model.get("excluded");
    const bytes = model.get("bytes");
    activations = SparseActivations.from(model.get("acts"));
    hovered = focused = -1;
    text.dir = textDirection(tokens.filter((_, i) => !excluded[i]));
    text.setAttribute("aria-label", `Text of ${tokens.length} tokens`);
    spans = tokens.map((token, i) => {
      const continued = characterToken(tokens, i) !== i;
      const className = `sk-token${excluded[i] ? " sk-excluded" : ""}${continued ? " sk-continued" : ""}`;
      const content = continued ? "" : tokenText(token) || "\u2205";
      const span = h("span", { class: className, role: "button", ...NO_SHORTCUTS }, content);
      span.dataset.i = String(i);
      if (bytes[String(i)] !== undefined) span.title = tokenWithBytes(tokens, i, bytes);
      return span;
    });
    const breaks = (i: number) => Array.from({ length: countLineBreaks(tokens[i] ?? "") }, () => h("br"));
    text.replaceChildren(...spans.flatMap((span, i) => [span, ...breaks(i)]));
    if (tokens.length === 0) text.replaceChildren(h("p", { class: "sk-empty" }, "No text yet."));
    drawSelection();
    drawColours();
  };

  const positionOf = (target: EventTarget | null) => {
    const span = target instanceof Element ? target.closest<HTMLElement>(".sk-token") : null;
    return span ? Number(span.dataset.i) : -1;
  };
  text.addEventListener("click", (event) => {
    const position = positionOf(event.target);
    if (position >= 0) select(position);
  });
  text.addEventListener("pointerover", (event) => {
    hovered = positionOf(event.target);
    if (hovered >= 0) drawDetails();
  });
  text.addEventListener("pointerleave", () => {
    hovered = -1;
    drawDetails();
  });
  text.addEventListener("focusin", (event) => {
    focused = positionOf(event.target);
    drawDetails();
  });
  el.addEventListener("focusout", (event) => {
    if (event.relatedTarget instanceof Node && el.contains(event.relatedTarget)) return;
    // A chip that redraws its list loses the focus for a moment: look again when that is done.
    setTimeout(() => {
      if (focused < 0 || el.contains(document.activeElement)) return;
      focused = -1;
      drawDetails();
    });
  });
  text.addEventListener("keydown", (event) => {
    const position = positionOf(event.target);
    if (position < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      select(position);
      return;
    }
    const [right, left] = text.dir === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
    const keys = { forward: [right, "ArrowDown"], backward: [left, "ArrowUp"] };
    const next = rovingIndex(event, position, spans.length, keys);
    const span = next === null ? undefined : spans[next];
    if (!span) return;
    hovered = -1;
    for (const other of spans) other.tabIndex = -1;
    span.tabIndex = 0;
    span.focus();
  });

  onChange<HighlightState>(model, ["tokens", "bytes", "excluded", "acts"], drawText, signal);
  onChange<HighlightState>(model, ["feature", "scale", "names"], drawColours, signal);
  onChange<HighlightState>(model, ["selected"], drawSelection, signal);
  drawText();
}

export default { render };
