"""The Chinese of the caption grammar: the same fields and families as `english`, in the same order of frequency."""

COLOURS = {
    "red": "红色",
    "green": "绿色",
    "blue": "蓝色",
    "yellow": "黄色",
    "orange": "橙色",
    "purple": "紫色",
    "cyan": "青色",
    "pink": "粉色",
    "salmon": "鲑色",
    "black": "黑色",
}
SHAPES = {"circle": "圆形", "square": "正方形", "triangle": "三角形"}
SIZES = ("极小的", "较小的", "中等的", "较大的", "巨大的")
PACES = ("极慢地", "缓慢地", "平稳地", "快速地", "飞快地")
PACY = ("极慢", "缓慢", "平稳", "快速", "飞快")
MOVES = ("移动", "运动", "滑动", "平移", "前进")
MOVING = MOVES
NUMBERS = ("零", "一", "两", "三", "四")
DIRECTIONS = {"right": "右", "left": "左", "up": "上", "down": "下"}
WAYS = {
    "right": ("向右", "往右", "朝右", "向右边"),
    "left": ("向左", "往左", "朝左", "向左边"),
    "up": ("向上", "往上", "朝上", "向上方"),
    "down": ("向下", "往下", "朝下", "向下方"),
}
SIDES = {"right": "右墙", "left": "左墙", "up": "上墙", "down": "下墙"}
FLOOR = "地面"
RELATIONS = {"left of": "左边", "right of": "右边", "above": "上方", "below": "下方"}
PLACES = (("左上方", "顶部", "右上方"), ("左侧", "中央", "右侧"), ("左下方", "底部", "右下方"))
STILL, DRIFTING, PICTURE = "静止", "漂动", "静图"


def noun(colour: str, shape: str, size: str = "", count: int = 1) -> str:
    """'一个红色圆形'; with count 0 the bare '红色圆形'."""
    return (f"{NUMBERS[count]}个" if count else "") + f"{size}{colour}{shape}"


def join(parts: list[str]) -> str:
    """'x', 'x和y', 'x、y和z'."""
    return "和".join(["、".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def contact(sides: list[str]) -> str:
    """A sentence on the contacts with walls, in order."""
    return f"它从{'、再从'.join(sides)}弹回。" if sides else ""


def finish(text: str, style: str) -> str:
    """Chinese needs no capital; short captions carry no stop in their templates."""
    return text


SHORT = {
    "uniform": (
        "{thing}向{direction}移动",
        "{thing}{way}{moves}",
        "{kind}{way}{moves}",
        "{thing}正在{way}{moves}",
        "有{thing}{way}{moves}",
        "灰色背景上，{thing}{way}{moves}",
    ),
    "bounce": (
        "{thing}从{side}弹回",
        "{thing}撞上{side}后弹回",
        "{thing}碰到{side}反弹",
        "{kind}撞到{side}弹开",
        "{thing}{moves}到{side}并反弹",
    ),
    "bounce_early": ("{thing}朝{side}移动", "{thing}朝{side}{moves}", "{kind}正朝{side}{moves}"),
    "collision": ("{thing}和{other}相撞", "{thing}撞上{other}", "{thing}与{other}碰撞", "{thing}碰到{other}后弹开"),
    "collision_early": ("{thing}和{other}相互靠近", "{thing}朝{other}移动", "{thing}接近{other}"),
    "parabola": ("{thing}向{direction}落下", "{thing}被{way}抛出后落下", "{thing}{way}飞落", "抛出的{kind}{way}落下"),
    "occluder": (
        "{thing}向{direction}移动，经过深色挡板后面",
        "{thing}{way}{moves}，从深色挡板后面穿过",
        "{thing}{way}{moves}，被深色挡板短暂遮住",
        "{thing}{way}穿过挡板后面再出现",
    ),
    "composition": ("{things}", "有{things}", "画面中有{things}", "灰色背景上的{things}", "一幅{things}的画面"),
    "relation": (
        "{thing}在{other}的{relation}",
        "{thing}位于{other}{relation}",
        "有{thing}在{other}的{relation}",
        "{other}的{relation}是{thing}",
        "{thing}和{other}",
    ),
    "pan": (
        "镜头向{direction}平移，经过{things}",
        "镜头{way}{moves}，经过{things}",
        "随着镜头{way}移动看到{things}",
        "镜头{way}扫过{things}",
    ),
}
DENSE = {
    "uniform": (
        "{full}从{place}开始，{pace}{way}{moves}。",
        "灰色背景上，{full}从{place}{pace}{way}{moves}。",
        "起于{place}，{full}{pace}{way}{moves}。",
    ),
    "bounce": (
        "{full}从{place}开始{pace}{moves}。{then}",
        "灰色背景上，{full}{pace}{moves}。{then}",
        "起于{place}，{full}{pace}{moves}。{then}",
    ),
    "bounce_early": (
        "{full}从{place}{pace}朝{side}{moves}。",
        "灰色背景上，{full}{pace}朝{side}{moves}。",
        "起于{place}，{full}朝{side}{pace}{moves}。",
    ),
    "collision": (
        "{full}与{fuller}相撞后弹开。",
        "左边的{full}与右边的{fuller}碰撞。",
        "灰色背景上，{full}和{fuller}碰撞后分开。",
    ),
    "collision_early": (
        "{full}和{fuller}相互靠近。",
        "{full}{pace}朝{fuller}移动。",
        "灰色背景上，{full}接近{fuller}。",
    ),
    "parabola": (
        "{full}从{place}{way}抛出后落下。{then}",
        "起于{place}，{full}{way}飞落。{then}",
        "灰色背景上，{full}{pace}{way}落下。{then}",
    ),
    "occluder": (
        "{full}{pace}{way}{moves}，经过深色挡板后面再出现。",
        "起于{place}，{full}{way}{moves}，从深色挡板后面穿过。",
        "{full}{pace}{way}{moves}时被深色挡板短暂遮住。",
    ),
    "composition": (
        "{things_full}，{state}。",
        "灰色背景上有{things_full}，{state}。",
        "简单的画面：{things_full}，{state}。",
    ),
    "relation": (
        "{full}在{fuller}的{relation}，{state}。",
        "灰色背景上，{full}位于{fuller}{relation}，{state}。",
        "简单的画面：{full}在{fuller}{relation}，{state}。",
    ),
    "pan": (
        "镜头{pace}向{direction}平移，经过{things_full}。",
        "{pacy}的镜头{way}扫过{things_full}。",
        "淡淡花纹上的{things_full}，镜头{pace}{way}移动。",
    ),
}
