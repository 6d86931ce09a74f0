// One feature's card. A click on a neighbour sets `feature`; Python answers with `card`, or the card is embedded.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import { type CardData, cardOrWords } from "./shared/card";
import { h } from "./shared/dom";
import { listen, put } from "./shared/model";

export interface CardState {
  feature: number;
  card: CardData | Record<string, never>;
  cards: Record<string, CardData>;
  live: boolean;
  error: string;
}

function render({ model, el, signal }: RenderProps<CardState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-card");
  const body = h("div");
  const status = h("output", { class: "sk-spoken", "aria-live": "polite" });
  el.replaceChildren(body, status);
  const open = (feature: number) => {
    put<CardState>(model, { feature });
    status.textContent = `Opening feature ${feature}`;
  };
  const draw = () => {
    const { activeElement } = document;
    const hadFocus = body.contains(activeElement);
    body.replaceChildren(
      cardOrWords(
        model.get("feature"),
        model.get("card"),
        model.get("cards"),
        model.get("live"),
        model.get("error"),
        open,
      ),
    );
    if (!hadFocus) return;
    const heading = body.querySelector<HTMLElement>("h3"); // the button that was pressed is gone: stay in the card
    if (heading) {
      heading.tabIndex = -1;
      heading.setAttribute("data-lm-suppress-shortcuts", "true");
      heading.focus({ preventScroll: true });
    }
  };
  listen<CardState>(model, ["feature", "card", "cards", "error"], draw, signal);
  draw();
}

export default { render };
