// Whether Python listens: asked with each wish that needs an answer, and said in words when no answer comes.
//
// A ping goes before the wish, and Python answers it before any work: silence means that the kernel is busy with a cell
// or restarting. A kernel that is done with the ping and has not answered does not know this widget: another one made
// it. While an answer is due the last message waits in the place of those before it. Views also hide the static picture
// that the notebook keeps beside them, for as long as they are shown.

import type { AnyModel } from "@anywidget/types";
import "./kernel.css";
import { h } from "./dom";
import type { WidgetState } from "./refused";

export const SILENCE = 1500; // milliseconds without an answer, after which a line says so
const [FIRST_AGAIN, LAST_AGAIN] = [2000, 30_000]; // milliseconds from one unanswered ping to the next
export const BUSY = "The kernel is busy or restarting; this is done when it answers.";
export const GONE = "No kernel: the one that made this widget has stopped. Run its cell again to go on.";
const LOST = "comm_live_update" as never; // an event of ipywidgets' models, which anywidget's types do not name

type Model = AnyModel<WidgetState & Record<string, unknown>>;

export interface Kernel {
  /** The line, hidden while Python answers. */
  element: HTMLElement;
  /** To be called before a trait is set that Python answers. */
  ask(): void;
  /** Sends a message; while an answer is due it waits, and the last one is sent. */
  send(message: object): void;
  /** Sends a message of which each one counts, without waiting for an answer; false where no kernel can take it. */
  tell(message: object): boolean;
}

export function kernelOf(model: Model, signal: AbortSignal | undefined): Kernel {
  const element = h("p", { class: "sk-kernel", "aria-live": "polite" });
  let sent = 0; // number of the last ping
  let isDue = false;
  let isGone = false;
  let waiting: object | null = null;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let again: ReturnType<typeof setTimeout> | undefined;

  const say = (text: string) => {
    if (element.textContent !== text) element.textContent = text;
    element.hidden = text === "";
  };
  const rest = () => {
    clearTimeout(silence);
    clearTimeout(again);
    isDue = false;
  };
  const lose = () => {
    rest();
    [isGone, waiting] = [true, null];
    say(GONE);
  };
  const post = (message: object, callbacks?: object) => {
    try {
      model.send(message, callbacks as never);
    } catch {
      lose(); // the connection is closed: the kernel was shut down
    }
  };
  const ping = (pause: number) => {
    const n = ++sent;
    const onStatus = (reply: { content?: { execution_state?: string } }) => {
      if (isDue && n === sent && reply.content?.execution_state === "idle") lose();
    };
    again = setTimeout(() => ping(Math.min(2 * pause, LAST_AGAIN)), pause);
    post({ kind: "ping", n }, { iopub: { status: onStatus } });
  };
  const ask = () => {
    if (isDue || isGone) return;
    isDue = true;
    silence = setTimeout(() => say(BUSY), SILENCE);
    ping(FIRST_AGAIN);
  };
  const send = (message: object) => {
    if (isDue) {
      waiting = message;
      return;
    }
    ask();
    if (!isGone) post(message);
  };
  const tell = (message: object) => {
    ask();
    if (!isGone) post(message);
    return !isGone;
  };
  const onMessage = (content: unknown) => {
    if ((content as { kind?: unknown } | null)?.kind !== "pong" || isGone) return;
    rest();
    say("");
    const message = waiting;
    waiting = null;
    if (message !== null) send(message);
  };

  say("");
  model.on("msg:custom", onMessage);
  model.on(LOST, lose);
  const showPicture = hidePicture(model.get("picture_id"));
  signal?.addEventListener("abort", () => {
    rest();
    model.off("msg:custom", onMessage);
    model.off(LOST, lose);
    showPicture();
  });
  return { element, ask, send, tell };
}

/** Hides the pictures of this name wherever they are drawn in the document; the function returned shows them again. */
export function hidePicture(name: string | undefined): () => void {
  if (!name || !/^\w+$/.test(name)) return () => {};
  const picture = `[data-saekit-picture="${name}"]`;
  const style = h("style", {}, `${picture}, .jp-OutputArea-child:has(${picture}) { display: none !important; }`);
  document.head.append(style);
  return () => style.remove();
}
