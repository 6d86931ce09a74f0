// Text coloured by the features that stand out in it, or by one. All sparse activations of the text are here, so a
// recolouring needs no kernel.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./token_highlight.css";
import { controls } from "./highlight/controls";
import { tokenDetails } from "./highlight/details";
import { legend } from "./highlight/legend";
import { progress } from "./highlight/progress";
import { TextFeatures } from "./highlight/standouts";
import { COLOURING, type HighlightState } from "./highlight/state";
import { textView } from "./highlight/text_view";
import { h } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange, setTraits } from "./shared/model";
import { refusedLine } from "./shared/refused";
import { characterToken, tokenSpeech } from "./shared/tokens";

function render({ model, el, signal }: RenderProps<HighlightState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-highlight");
  const settings = controls(model, signal);
  const head = legend(model);
  const reading = progress(model);
  const text = textView(model);
  const details = h("div", { class: "sk-detail" });
  const status = h("output", { class: "sk-visually-hidden", "aria-live": "polite" });
  el.replaceChildren(
    refusedLine(model, signal),
    kernelOf(model, signal).element,
    settings.element,
    head.element,
    reading.element,
    text.element,
    details,
    status,
  );

  let features = new TextFeatures(model);
  let colouring = features.colouring(model);
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
    details.replaceChildren(...tokenDetails(model, features, colouring, position));
  };

  const drawColours = () => {
    colouring = features.colouring(model);
    settings.draw(colouring);
    head.draw(colouring);
    text.colour(colouring, features);
    drawnDetails = "";
    drawDetails();
  };

  const drawSelection = () => {
    const inText = selected() >= 0 && selected() < text.n();
    text.select(selected(), inText ? selected() : Math.max(0, focused));
    drawDetails();
  };

  const drawText = () => {
    hovered = focused = -1;
    features = new TextFeatures(model);
    text.draw();
    drawSelection();
    reading.draw();
    drawColours();
  };

  text.element.addEventListener("click", (event) => {
    const position = text.positionOf(event.target);
    if (position >= 0) select(position);
  });
  text.element.addEventListener("pointerover", (event) => {
    hovered = text.positionOf(event.target);
    if (hovered >= 0) drawDetails();
  });
  text.element.addEventListener("pointerleave", () => {
    hovered = -1;
    drawDetails();
  });
  text.element.addEventListener("focusin", (event) => {
    focused = text.positionOf(event.target);
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
  text.element.addEventListener("keydown", (event) => {
    const position = text.positionOf(event.target);
    if (position < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      select(position);
      return;
    }
    const next = text.nextPosition(event, position);
    if (next === null) return;
    hovered = -1;
    if (position === selected() && next !== position) select(next); // the selection goes with the focus
    text.select(selected(), next);
    text.focus(next);
  });

  const refresh = () => {
    features = new TextFeatures(model);
    drawColours();
  };
  let waiting = false;
  const refreshSoon = () => {
    if (waiting) return; // activations, statistics and names come together: once for all of them
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      if (!signal?.aborted) refresh();
    });
  };
  onChange<HighlightState>(model, ["tokens", "bytes"], drawText, signal);
  onChange<HighlightState>(model, ["acts", "statistics", "excluded", "names"], refreshSoon, signal);
  const others = COLOURING.filter((name) => !["acts", "statistics", "names"].includes(name));
  onChange<HighlightState>(model, [...others, "explanation", "maxima_from"], drawColours, signal);
  onChange<HighlightState>(model, ["selected"], drawSelection, signal);
  onChange<HighlightState>(model, ["reading", "n_read", "status", "error"], reading.draw, signal);
  drawText();
}

export default { render };
