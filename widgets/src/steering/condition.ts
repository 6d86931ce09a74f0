// What a steering condition contains, and what a new one begins with. Pure: no document.

import type { Condition } from "./state";

export const isUnsteered = (c: Condition): boolean => c.features.length === 0 && c.instruction === "" && c.edits === "";

export const featuresOf = (conditions: readonly Condition[]): number[] => [
  ...new Set(conditions.flatMap((c) => c.features.map((f) => f.feature))),
];

/** Another condition: the features of the last one that has some, so that two strengths can be compared at once. */
export function nextCondition(conditions: readonly Condition[]): Condition {
  const names = new Set(conditions.map((c) => c.name));
  let i = conditions.length + 1;
  while (names.has(`condition ${i}`)) i++;
  const template = conditions.filter((c) => c.features.length > 0).at(-1)?.features ?? [];
  return { name: `condition ${i}`, features: template.map((f) => ({ ...f })), instruction: "", edits: "" };
}

/** A feature that condition `index` lacks: one that another condition has, else the lowest number. */
export function nextFeature(conditions: readonly Condition[], index: number): number {
  const own = new Set(conditions[index]?.features.map((f) => f.feature));
  const other = conditions.flatMap((c) => c.features).find((f) => !own.has(f.feature));
  if (other) return other.feature;
  let i = 0;
  while (own.has(i)) i++;
  return i;
}
