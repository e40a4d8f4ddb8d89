// Two pictures, their keypoints and the lines between, drawn on a canvas.

const GAP = 12, ROUND = 6, TURN = Math.PI / 180;

/** Radius in pixels of the circle of a keypoint of scale 1: a quarter of its size, which is 32 px. */
const RADIUS = 8;

/** Colours on photographs, whatever the page's own are. */
const FIRST = "#3fb4ff", SECOND = "#ff9a3d", RIGHT = "#27c46b", WRONG = "#ff4a3a";

/** Where two frames of given widths and heights lie on a canvas of some width: {places: [{x, y, w, h}], height}. */
export function layout(width, tallest, frames) {
  const shapes = frames.map((frame) => frame.width / frame.height);
  if (width < 560) {
    let y = 0;
    const places = shapes.map((shape) => {
      const place = { x: 0, y, w: width, h: width / shape };
      y += place.h + GAP;
      return place;
    });
    return { places, height: y - GAP };
  }
  const height = Math.min((width - GAP) / (shapes[0] + shapes[1]), tallest);
  const total = height * (shapes[0] + shapes[1]) + GAP;
  let x = (width - total) / 2;
  const places = shapes.map((shape) => {
    const place = { x, y: 0, w: height * shape, h: height };
    x += place.w + GAP;
    return place;
  });
  return { places, height };
}

/** A point of a frame, turned and zoomed about the frame's middle as the second picture was since it was looked at. */
function moved(x, y, frame, since) {
  const cx = (frame.width - 1) / 2, cy = (frame.height - 1) / 2;
  const cos = since.zoom * Math.cos(since.turn * TURN), sin = since.zoom * Math.sin(since.turn * TURN);
  return [cx + cos * (x - cx) - sin * (y - cy), cy + sin * (x - cx) + cos * (y - cy)];
}

/** How far a pose has changed since another one. */
export function change(now, then) {
  return { turn: now.turn - then.turn, zoom: now.zoom / then.zoom };
}

/** Keypoints on the canvas: [{x, y, r, angle, row}], those of each picture. */
export function placed(scene) {
  const { places, answer, pose } = scene;
  if (!answer) return [[], []];
  const still = { turn: 0, zoom: 1 };
  return [answer.first, answer.second].map((side, index) => {
    const since = index ? change(pose, answer.pose) : still, place = places[index], factor = place.w / side.width;
    return side.keypoints.map((row) => {
      const [x, y] = moved(row[0], row[1], side, since);
      return {
        x: place.x + (x + 0.5) * factor, y: place.y + (y + 0.5) * factor,
        r: RADIUS * row[2] * factor * since.zoom, angle: row[3] + since.turn * TURN, row,
      };
    });
  });
}

/** Which matches have a line, and whether each is a good one: [[a, b, good]], bad ones first. */
export function lines(answer, show) {
  if (!answer || show === "none") return [];
  const rows = answer.matches.map(([a, b], index) => [a, b, answer.right ? answer.right[index] : answer.inliers[index], answer.inliers[index]]);
  return rows.filter((row) => show === "all" || row[3]).sort((one, other) => one[2] - other[2]);
}

/** Draw everything of a scene. */
export function draw(context, scene) {
  const { places, pictures, pose, colours } = scene;
  places.forEach((place, index) => {
    context.save();
    context.beginPath();
    context.roundRect(place.x, place.y, place.w, place.h, ROUND);
    context.clip();
    context.fillStyle = colours.shade;
    context.fillRect(place.x, place.y, place.w, place.h);
    spread(context, pictures[index], place, index ? pose : { turn: 0, zoom: 1 });
    if (scene.scores?.[index]) {
      spread(context, null, place, index ? pose : { turn: 0, zoom: 1 });
      spread(context, scene.scores[index], place, index ? change(pose, scene.answer.pose) : { turn: 0, zoom: 1 });
    }
    context.restore();
  });
  const points = placed(scene);
  const joined = lines(scene.answer, scene.show);
  if (scene.keypoints) {
    points.forEach((side, index) => {
      const linked = new Set(joined.map((row) => row[index])), colour = index ? SECOND : FIRST;
      circles(context, side.filter((_, number) => !linked.has(number)), places[index], colour, 0.5);
      circles(context, side.filter((_, number) => linked.has(number)), places[index], colour, 1);
    });
  }
  drawLines(context, points, joined, scene);
}

/** A picture over its place, turned and zoomed about the middle; a veil where there is none. */
function spread(context, picture, place, pose) {
  context.save();
  context.translate(place.x + place.w / 2, place.y + place.h / 2);
  context.rotate(pose.turn * TURN);
  context.scale(pose.zoom, pose.zoom);
  const box = [-place.w / 2, -place.h / 2, place.w, place.h];
  if (picture) context.drawImage(picture, ...box);
  else {
    context.fillStyle = "rgba(8, 10, 14, 0.6)";
    context.fillRect(...box);
  }
  context.restore();
}

function inside(point, place) {
  return point.x >= place.x && point.x <= place.x + place.w && point.y >= place.y && point.y <= place.y + place.h;
}

/** A circle for each keypoint's size and a stroke from its middle for its direction; dark below, so that both show on any picture. */
function circles(context, points, place, colour, strength) {
  context.save();
  context.beginPath();
  context.rect(place.x, place.y, place.w, place.h);
  context.clip();
  context.beginPath();
  for (const { x, y, r, angle } of points) {
    context.moveTo(x + r, y);
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.moveTo(x, y);
    context.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  context.globalAlpha = 0.3 * strength;
  context.lineWidth = 2.4;
  context.strokeStyle = "#000";
  context.stroke();
  context.globalAlpha = strength;
  context.lineWidth = 1.2;
  context.strokeStyle = colour;
  context.stroke();
  context.restore();
}

function drawLines(context, [first, second], joined, scene) {
  const chosen = joined.filter(([a, b]) => inside(first[a], scene.places[0]) && inside(second[b], scene.places[1]));
  const pointed = scene.pointed, calm = Math.min(0.85, Math.max(0.35, 8 / Math.sqrt(chosen.length)));
  for (const [a, b, good] of chosen) {
    const strong = pointed && (pointed.side ? b : a) === pointed.index;
    context.globalAlpha = strong ? 1 : pointed ? 0.12 : calm;
    context.strokeStyle = context.fillStyle = good ? RIGHT : WRONG;
    context.lineWidth = strong ? 2.4 : 1.1;
    context.beginPath();
    context.moveTo(first[a].x, first[a].y);
    context.lineTo(second[b].x, second[b].y);
    context.stroke();
    for (const { x, y } of [first[a], second[b]]) {
      context.beginPath();
      context.arc(x, y, strong ? 4 : 2, 0, 2 * Math.PI);
      context.fill();
    }
    if (strong) {
      circles(context, [first[a]], scene.places[0], FIRST, 1);
      circles(context, [second[b]], scene.places[1], SECOND, 1);
    }
  }
  context.globalAlpha = 1;
}
