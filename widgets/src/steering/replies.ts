// The conversation in columns, one per condition. A growing reply gets new spans; nothing else is drawn again.

import { h, QUIET } from "../shared/dom";
import { direction } from "../shared/text";
import type { Condition, Detail, Exchange, Reply } from "./state";
import { deeds, figures, isPlain, running as shownText } from "./units";

/** What stands in the columns: the latest conversation or an earlier run. */
export interface Shown {
  id: string;
  conditions: Condition[];
  unit: string;
  exchanges: Exchange[];
  details: (Detail | null)[][] | null; // null: not kept
  writing: boolean;
  concept: string;
}

/** A token that was pointed at. */
export interface Spot {
  span: HTMLElement;
  text: HTMLElement;
  index: number;
  token: string;
  nll: number | null | undefined;
  detail: Detail | null;
  kept: boolean; // whether this run has details at all
  writing: boolean;
}

/** One number per token, or nothing where there is none. */
export type Values = ArrayLike<number | null> | null;

interface Place {
  column: number;
  turn: number;
}

export interface RepliesView {
  element: HTMLElement;
  draw(shown: Shown): void;
  colour(values: (turn: number, column: number) => Values, top: number): void;
  spot(text: HTMLElement, index: number): Spot | null;
  spotOf(target: EventTarget | null): Spot | null;
}

const NEAR_END = 24;

export function repliesView(): RepliesView {
  const element = h("div", { class: "sk-replies" });
  const places = new WeakMap<HTMLElement, Place>();
  let columns: ColumnView[] = [];
  let key = "";
  let shown: Shown | null = null;

  const draw = (next: Shown) => {
    shown = next;
    const wanted = JSON.stringify([next.id, next.conditions, next.unit]);
    if (wanted !== key) {
      key = wanted;
      columns = next.conditions.map((condition) => new ColumnView(condition, next.unit));
      element.replaceChildren(...columns.map((c) => c.element));
    }
    const following = next.writing ? columns.filter((c) => c.isAtEnd()) : [];
    for (const [i, column] of columns.entries()) {
      column.draw(next, i);
      for (const [e, turn] of column.turns.entries()) places.set(turn.text, { column: i, turn: e });
    }
    for (const column of following) column.toEnd();
  };

  const spot = (text: HTMLElement, index: number): Spot | null => {
    const place = places.get(text);
    const reply = place && shown?.exchanges[place.turn]?.replies[place.column];
    const span = place && columns[place.column]?.turns[place.turn]?.spans[index];
    if (!shown || !place || !reply || !span) return null;
    const detail = shown.details?.[place.turn]?.[place.column] ?? null;
    const writing = shown.writing && place.turn === shown.exchanges.length - 1;
    return {
      span,
      text,
      index,
      token: reply.tokens[index] ?? "",
      nll: reply.nll[index],
      detail,
      kept: shown.details !== null,
      writing,
    };
  };

  return {
    element,
    draw,
    spot,
    spotOf: (target) => {
      const span = target instanceof Element ? target.closest<HTMLElement>(".sk-said .sk-token") : null;
      return span?.parentElement ? spot(span.parentElement, Number(span.dataset.i)) : null;
    },
    colour: (values, top) => {
      for (const [c, column] of columns.entries()) {
        for (const [e, turn] of column.turns.entries()) turn.colour(values(e, c), top);
      }
    },
  };
}

class ColumnView {
  readonly element: HTMLElement;
  readonly turns: TurnView[] = [];
  private readonly figures = h("p", { class: "sk-figures sk-num" });
  private readonly scroller = h("div", { class: "sk-turns" });
  private said = "";

  constructor(
    private readonly condition: Condition,
    unit: string,
  ) {
    const does = h("p", { class: "sk-deeds" }, ...deeds(condition, unit).map((words) => h("span", {}, words)));
    const head = h("header", {}, h("h4", {}, condition.name), does, this.figures);
    this.element = h(
      "section",
      { class: isPlain(condition) ? "sk-column" : "sk-column sk-steered", "aria-label": condition.name },
      head,
      this.scroller,
    );
  }

  draw(shown: Shown, at: number): void {
    const { exchanges } = shown;
    while (this.turns.length > exchanges.length) this.turns.pop()?.element.remove();
    while (this.turns.length < exchanges.length) {
      const turn = new TurnView();
      this.turns.push(turn);
      this.scroller.append(turn.element);
    }
    exchanges.forEach((exchange, e) => {
      const last = e === exchanges.length - 1;
      const name =
        exchanges.length > 1 ? `Reply ${e + 1} of ${this.condition.name}` : `Reply of ${this.condition.name}`;
      this.turns[e]?.draw(
        exchanges.length > 1 ? exchange.user : null,
        exchange.replies[at],
        name,
        shown.writing && last,
      );
    });
    this.drawFigures(exchanges.at(-1)?.replies[at], shown.concept);
  }

  private drawFigures(reply: Reply | undefined, concept: string): void {
    const parts = reply ? figures(reply).map(([words, title]) => h("span", { title }, words)) : [];
    if (reply && reply.present !== null && concept) {
      const mark = h(
        "span",
        { class: reply.present ? "sk-mark sk-present" : "sk-mark" },
        `${reply.present ? "mentions" : "does not mention"} ${concept}`,
      );
      parts.push(mark);
    }
    const said = parts.map((part) => part.textContent).join("|");
    if (said === this.said) return;
    this.said = said;
    this.figures.replaceChildren(...parts);
  }

  isAtEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  toEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

class TurnView {
  readonly text = h("div", { class: "sk-said", tabindex: 0, role: "group", ...QUIET });
  readonly spans: HTMLElement[] = [];
  private readonly user = h("p", { class: "sk-user" });
  private readonly none = h("p", { class: "sk-soft sk-none" }, "(empty reply)");
  readonly element = h("div", { class: "sk-turn" }, this.user, this.text, this.none);
  private tokens: readonly string[] = [];

  draw(user: string | null, reply: Reply | undefined, name: string, writing: boolean): void {
    this.user.hidden = user === null;
    if (user !== null && this.user.textContent !== user) this.user.textContent = user;
    this.text.setAttribute("aria-label", name);
    this.text.classList.toggle("sk-writing", writing && reply?.end === "");
    this.write(reply?.tokens ?? []);
    this.none.hidden = writing || this.tokens.some((token) => token !== "");
    this.text.hidden = !this.none.hidden;
  }

  private write(tokens: readonly string[]): void {
    const grown = document.createDocumentFragment();
    tokens.forEach((token, i) => {
      if (token === this.tokens[i]) return;
      let span = this.spans[i];
      if (!span) {
        span = h("span", { class: "sk-token" });
        span.dataset.i = String(i);
        this.spans.push(span);
        grown.append(span);
      }
      span.textContent = shownText(token);
      span.classList.toggle("sk-break", /^[\r\n]+$/.test(token));
      span.style.removeProperty("--a");
    });
    for (const span of this.spans.splice(tokens.length)) span.remove();
    this.text.append(grown);
    if (this.tokens.length < 40 || tokens.length < 40) this.text.dir = direction(tokens);
    this.tokens = tokens;
  }

  colour(values: Values, top: number): void {
    this.spans.forEach((span, i) => {
      const share = top > 0 ? Math.min(1, Math.max(0, (values?.[i] ?? 0) / top)) : 0;
      if (share > 0) span.style.setProperty("--a", share.toFixed(3));
      else span.style.removeProperty("--a");
    });
  }
}
