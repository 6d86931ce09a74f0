// One feature's card. A click on a neighbour sets `feature`; Python answers with `card`, or the card is embedded.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import { type CardTraits, cardOrMessage } from "./shared/card";
import { h } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange, setTraits, traits } from "./shared/model";
import { refusedLine, type WidgetState } from "./shared/refused";

export interface CardState extends CardTraits, WidgetState {
  n_features: number;
}

const DRAWN = ["feature", "card", "cards", "live", "error"] as const;

function render({ model, el, signal }: RenderProps<CardState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-card");
  const body = h("div");
  const status = h("output", { class: "sk-visually-hidden", "aria-live": "polite" });
  const kernel = kernelOf(model, signal);
  el.replaceChildren(kernel.element, body, refusedLine(model, signal), status);
  const open = (feature: number) => {
    kernel.ask();
    setTraits<CardState>(model, { feature });
    status.textContent = `Opening feature ${feature}`;
  };
  const draw = () => {
    const hadFocus = body.contains(document.activeElement);
    body.replaceChildren(cardOrMessage(traits<CardState, (typeof DRAWN)[number]>(model, DRAWN), open));
    const heading = body.querySelector<HTMLElement>("h3");
    if (!hadFocus || !heading) return;
    heading.tabIndex = -1; // the button that was pressed is gone: the focus stays in the card
    heading.setAttribute("data-lm-suppress-shortcuts", "true");
    heading.focus({ preventScroll: true });
  };
  onChange<CardState>(model, DRAWN, draw, signal);
  draw();
}

export default { render };
