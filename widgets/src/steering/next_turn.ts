// The line below the replies that writes the next turn of all conversations, or the last one again.

import { button, h, NO_SHORTCUTS } from "../shared/dom";
import type { Model } from "./state";

export interface NextTurn {
  element: HTMLElement;
  draw(visible: boolean, running: boolean): void;
}

export function nextTurn(model: Model, send: (message: object) => void): NextTurn {
  const input = h("input", {
    type: "text",
    "aria-label": "Reply to all",
    placeholder: "Reply to all\u2026",
    autocomplete: "off",
    ...NO_SHORTCUTS,
  });
  const reply = () => {
    if (model.get("running") || input.value.trim() === "") return;
    send({ kind: "reply", message: input.value });
    input.value = "";
  };
  const sendButton = button("Send", "sk-button sk-primary", reply);
  const redo = button("Redo last turn", "sk-button", () => send({ kind: "redo" }));
  redo.title = "Answer the last message again with the seed, temperature and length set above";
  const element = h("div", { class: "sk-reply", role: "group", "aria-label": "Next turn" }, input, sendButton, redo);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === input && !event.isComposing) {
      event.preventDefault();
      reply();
    }
    if (event.key !== "Escape") event.stopPropagation();
  });
  const draw = (visible: boolean, running: boolean) => {
    element.hidden = !visible;
    sendButton.disabled = redo.disabled = running;
  };
  return { element, draw };
}
