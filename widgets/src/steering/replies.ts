// The conversation in columns, one per condition.

import "./replies.css";
import { h } from "../shared/dom";
import { ReplyColumn } from "./reply_column";
import type { Condition, Detail, TokenValues, Turn } from "./state";

/** The run that the columns show: the latest conversation or an earlier one. */
export interface DisplayedRun {
  id: string;
  conditions: Condition[];
  unit: string;
  names: Record<string, string>; // of the features of the conditions
  exchanges: Turn[];
  details: (Detail | null)[][] | null; // null: not kept
  writing: boolean;
  concept: string;
}

/** A token of a reply, with all that is known of it. */
export interface ReplyTokenInfo {
  span: HTMLElement;
  text: HTMLElement;
  index: number;
  token: string;
  nll: number | null | undefined;
  detail: Detail | null;
  hasDetails: boolean; // whether this run has details at all
  writing: boolean;
}

export interface RepliesView {
  element: HTMLElement;
  draw(run: DisplayedRun): void;
  colour(values: (turn: number, column: number) => TokenValues, max: number): void;
  tokenAt(text: HTMLElement, index: number): ReplyTokenInfo | null;
  tokenOf(target: EventTarget | null): ReplyTokenInfo | null;
}

export function repliesView(): RepliesView {
  const element = h("div", { class: "sk-replies" });
  const places = new WeakMap<HTMLElement, { column: number; turn: number }>(); // of each reply's element
  let columns: ReplyColumn[] = [];
  let drawnColumns = "";
  let shown: DisplayedRun | null = null;

  const draw = (run: DisplayedRun) => {
    shown = run;
    const key = JSON.stringify([run.id, run.conditions, run.unit, run.names]);
    if (key !== drawnColumns) {
      drawnColumns = key;
      columns = run.conditions.map((condition) => new ReplyColumn(condition, run.unit, run.names));
      element.replaceChildren(...columns.map((c) => c.element));
    }
    const following = run.writing ? columns.filter((c) => c.isAtEnd()) : [];
    for (const [c, column] of columns.entries()) {
      column.draw(run.exchanges, c, run.writing, run.concept);
      for (const [t, turn] of column.turns.entries()) places.set(turn.text, { column: c, turn: t });
    }
    for (const column of following) column.scrollToEnd();
  };

  const tokenAt = (text: HTMLElement, index: number): ReplyTokenInfo | null => {
    const place = places.get(text);
    const reply = place && shown?.exchanges[place.turn]?.replies[place.column];
    const span = place && columns[place.column]?.turns[place.turn]?.spans[index];
    if (!shown || !place || !reply || !span) return null;
    return {
      span,
      text,
      index,
      token: reply.tokens[index] ?? "",
      nll: reply.nll[index],
      detail: shown.details?.[place.turn]?.[place.column] ?? null,
      hasDetails: shown.details !== null,
      writing: shown.writing && place.turn === shown.exchanges.length - 1,
    };
  };
  const tokenOf = (target: EventTarget | null) => {
    const span = target instanceof Element ? target.closest<HTMLElement>(".sk-reply-text .sk-token") : null;
    return span?.parentElement ? tokenAt(span.parentElement, Number(span.dataset.i)) : null;
  };
  const colour: RepliesView["colour"] = (values, max) => {
    for (const [c, column] of columns.entries()) {
      for (const [t, turn] of column.turns.entries()) turn.colour(values(t, c), max);
    }
  };
  return { element, draw, tokenAt, tokenOf, colour };
}
