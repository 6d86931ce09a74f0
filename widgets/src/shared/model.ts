// The part of the AFM model contract the widgets use: listen while shown, set and save.

import type { AnyModel } from "@anywidget/types";

type State = Record<string, unknown>;

/** Calls `act` when any of `names` changes, until the view is closed. */
export function listen<T extends object>(
  model: AnyModel<T & State>,
  names: readonly (keyof T & string)[],
  act: () => void,
  signal: AbortSignal | undefined,
): void {
  for (const name of names) model.on(`change:${name}`, act);
  signal?.addEventListener("abort", () => {
    for (const name of names) model.off(`change:${name}`, act);
  });
}

/** Sets several traits and tells Python in one message. */
export function put<T extends object>(model: AnyModel<T & State>, values: Partial<T>): void {
  for (const [name, value] of Object.entries(values)) model.set(name as never, value as never);
  model.save_changes();
}
