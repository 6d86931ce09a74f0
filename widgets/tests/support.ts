import type { RenderProps } from "@anywidget/types";
import { OfflineModel } from "../src/shared/offline_model";

/** Text that would run a script if it ever became HTML. */
export const HOSTILE = "<img src=x onerror=alert(1)>";

/** A model that also remembers what was saved and sent; pings are answered and not remembered. */
export class Recorder extends OfflineModel {
  saved = 0;
  sent: unknown[] = [];
  override save_changes(): void {
    this.saved++;
  }
  override send(content?: unknown): void {
    if ((content as { kind?: string }).kind === "ping") super.send(content);
    else this.sent.push(content);
  }
}

/** Renders a widget into the document. */
export function mount<S extends object>(widget: { render: unknown }, state: S) {
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const model = new Recorder(state as Record<string, unknown>);
  const controller = new AbortController();
  (widget.render as (props: RenderProps) => void)({ model, el, signal: controller.signal } as unknown as RenderProps);
  return { el, model, controller };
}

export const int32 = (...values: number[]): DataView => new DataView(Int32Array.from(values).buffer);
export const float32 = (...values: number[]): DataView => new DataView(Float32Array.from(values).buffer);
export const float64 = (...values: number[]): DataView => new DataView(Float64Array.from(values).buffer);
export const texts = (...values: string[]): DataView =>
  new DataView(new TextEncoder().encode(values.join("\u001f")).buffer as ArrayBuffer);

export function press(target: Element, key: string): void {
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
}

export const all = <T extends Element = HTMLElement>(el: Element, selector: string): T[] => [
  ...el.querySelectorAll<T>(selector),
];
export function one<T extends Element = HTMLElement>(el: Element, selector: string): T {
  const found = el.querySelector<T>(selector);
  if (!found) throw new Error(`nothing matches ${selector}`);
  return found;
}
