// The part of anywidget's model interface that the widgets use: traits, and callbacks for as long as a view is shown.

import type { AnyModel } from "@anywidget/types";

type State = Record<string, unknown>;

/** Calls `callback` when any of `names` changes, until the view is closed. */
export function onChange<T extends object>(
  model: AnyModel<T & State>,
  names: readonly (keyof T & string)[],
  callback: () => void,
  signal: AbortSignal | undefined,
): void {
  for (const name of names) model.on(`change:${name}`, callback);
  signal?.addEventListener("abort", () => {
    for (const name of names) model.off(`change:${name}`, callback);
  });
}

/** The present values of several traits. */
export function traits<T extends object, K extends keyof T & string>(
  model: AnyModel<T & State>,
  names: readonly K[],
): Pick<T, K> {
  return Object.fromEntries(names.map((name) => [name, model.get(name)])) as Pick<T, K>;
}

/** Sets several traits and sends them to Python in one message. */
export function setTraits<T extends object>(model: AnyModel<T & State>, values: Partial<T>): void {
  for (const [name, value] of Object.entries(values)) model.set(name as never, value as never);
  model.save_changes();
}
