"""What recognisers write where nobody speaks: learned from the ends of subtitled videos.

Sentences are compared whole, as `metrics.plain` leaves them, in whatever language they are: a
model may fall into any of them. What begins like one and goes on is another sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from auricle.curation.steps.languages import is_mostly_unspaced
from auricle.metrics import plain

# Sentences that hardly anyone says but into a camera; as a whole text, a sign by themselves.
_CLOSINGS = {
    "en": """thank you for watching | thanks for watching | thank you so much for watching
        | thank you very much for watching | thank you all for watching | thank you for your viewing
        | thanks for watching and see you next time | please subscribe | please like and subscribe
        | please subscribe to my channel | subscribe to my channel | like and subscribe
        | don't forget to subscribe | don't forget to like and subscribe
        | i'll see you in the next video | see you in the next video | see you in the next one""",
    "de": """vielen dank fürs zuschauen | danke fürs zuschauen | danke für's zuschauen
        | vielen dank für's zuschauen | bis zum nächsten video | abonniert den kanal""",
    "fr": """merci d'avoir regardé | merci d'avoir regardé cette vidéo | abonnez-vous
        | merci d'avoir regardé la vidéo | abonnez-vous à la chaîne | merci de votre visionnage
        | n'oubliez pas de vous abonner | à la prochaine vidéo""",
    "es": """gracias por ver el video | gracias por ver este video | gracias por ver
        | gracias por ver el vídeo | suscríbete | suscríbete al canal | suscribete al canal
        | no olvides suscribirte | no olviden suscribirse | nos vemos en el próximo video""",
    "it": """grazie per la visione | grazie per aver guardato il video | iscriviti al canale
        | grazie per aver guardato | grazie a tutti per la visione | iscrivetevi al canale""",
    "pt": """obrigado por assistir | obrigada por assistir | inscreva-se no canal
        | obrigado por assistirem | se inscreva no canal | até o próximo vídeo""",
    "nl": """bedankt voor het kijken | bedankt voor het kijken naar deze video
        | vergeet niet te abonneren | dank u voor het kijken""",
    "sv": "tack för att du tittade | tack för att ni tittade | tack för att du har tittat",
    "da": "tak fordi du så med | tak fordi i så med | tak for at se med",
    "no": "takk for at du så på | takk for at dere så på | takk for at du så med",
    "fi": "kiitos katsomisesta | kiitos kun katsoit | kiitos kun katsoitte",
    "pl": """dziękuję za obejrzenie | dziękuję za oglądanie | dzięki za oglądanie
        | dziękuję za uwagę i zapraszam do subskrypcji | zapraszam do subskrypcji""",
    "cs": "děkuji za sledování | děkujeme za sledování | díky za sledování",
    "hu": "köszönöm, hogy megnézted | köszönöm, hogy megnézte a videót | köszönjük, hogy megnézte",
    "ro": """mulțumesc pentru vizionare | vă mulțumim pentru vizionare
        | vă mulțumesc pentru vizionare""",
    "ru": """спасибо за просмотр | спасибо за просмотр этого видео | подписывайтесь на канал
        | подписывайтесь на мой канал | ставьте лайки и подписывайтесь на канал""",
    "uk": "дякую за перегляд | дякуємо за перегляд | підписуйтесь на канал",
    "tr": """izlediğiniz için teşekkürler | izlediğiniz için teşekkür ederim
        | izlediğiniz için teşekkür ederiz | abone olmayı unutmayın""",
    "el": "ευχαριστώ που παρακολουθήσατε | ευχαριστούμε που παρακολουθήσατε",
    "ar": "شكرا للمشاهدة | شكرا على المشاهدة | شكرا لكم على المشاهدة | اشتركوا في القناة",
    "he": "תודה על הצפייה | תודה שצפיתם | תודה רבה על הצפייה",
    "fa": "ممنون که تماشا کردید | با تشکر از تماشای شما",
    "hi": "देखने के लिए धन्यवाद | वीडियो देखने के लिए धन्यवाद | चैनल को सब्सक्राइब करें",
    "ja": """ご視聴ありがとうございました | ご視聴ありがとうございます | チャンネル登録お願いします
        | ご視聴いただきありがとうございました | 最後までご視聴いただきありがとうございました
        | チャンネル登録よろしくお願いします | チャンネル登録をお願いいたします
        | チャンネル登録と高評価をお願いします | 最後までご視聴ありがとうございました""",
    "zh": """谢谢观看 | 感谢观看 | 谢谢大家观看 | 谢谢您的观看 | 感谢您的观看 | 多谢您的观看
        | 謝謝觀看 | 感謝觀看 | 多謝您的觀看 | 感謝您的觀看 | 谢谢收看 | 請訂閱 | 请订阅
        | 记得订阅我的频道 | 請不吝點贊 訂閱 轉發 打賞支持明鏡與點點欄目
        | 请不吝点赞 订阅 转发 打赏支持明镜与点点栏目""",
    "ko": """시청해주셔서 감사합니다 | 시청해 주셔서 감사합니다 | 구독과 좋아요 부탁드립니다
        | 구독 좋아요 부탁드립니다 | 구독과 좋아요 알림 설정 부탁드립니다""",
    "vi": """cảm ơn các bạn đã xem | cảm ơn các bạn đã theo dõi | cảm ơn các bạn đã xem video
        | hãy đăng ký kênh | cảm ơn các bạn đã theo dõi và hẹn gặp lại
        | hẹn gặp lại các bạn trong những video tiếp theo""",
    "id": "terima kasih telah menonton | terima kasih sudah menonton | jangan lupa subscribe",
    "th": "ขอบคุณที่รับชม | ขอบคุณสำหรับการรับชม | อย่าลืมกดติดตาม",
}

# Sentences that people do say, and that recognisers write for noise too: never a sign alone.
_COMMON = """thank you | thanks | thank you very much | thank you so much | thank you all
    | thank you everyone | thanks a lot | you | bye | bye bye | goodbye | okay | ok | oh | so
    | yeah | yes | no | hmm | mm | um | uh | huh | ah | the | and | i | i'm sorry | the end
    | to be continued | we'll be right back | see you next time | see you later | good night
    | music | applause | laughter | silence | danke | vielen dank | dankeschön | tschüss
    | bis zum nächsten mal | ja | merci | merci beaucoup | au revoir | gracias | muchas gracias
    | adiós | sí | grazie | grazie mille | ciao | obrigado | obrigada | muito obrigado | tchau
    | bedankt | dank u wel | dank je wel | tack | tack så mycket | tak | takk | kiitos | dziękuję
    | dziękuję bardzo | děkuji | köszönöm | köszönöm szépen | mulțumesc | спасибо
    | большое спасибо | продолжение следует | дякую | teşekkürler | teşekkür ederim | ευχαριστώ
    | شكرا | شكرا لكم | תודה | תודה רבה | متشکرم | धन्यवाद | ありがとうございました
    | ありがとうございます | おやすみなさい | はい | バイバイ | 谢谢 | 谢谢大家 | 謝謝 | 謝謝大家
    | 再见 | 감사합니다 | 고맙습니다 | 네 | cảm ơn | xin cảm ơn | terima kasih | ขอบคุณครับ
    | ขอบคุณค่ะ"""

# Who made subtitles: read aloud by nobody. Of one sentence, plain; never of its beginning alone.
_NAME = r"\S+(?: \S+){0,3}"
_CREDITS = (
    rf"(?:sub ?titles?|captions?|captioning|captioned|transcribed|transcription|transcript)"
    rf"(?: (?:provided|created|made|edited))? by {_NAME}",
    rf"untertitel(?:ung)? (?:von \S+(?: \S+)?|(?:der|durch die) amaraorg {_NAME})",
    r"untertitel(?:ung)?(?: im auftrag)? des (?:zdf|ndr|wdr|swr|mdr|br|hr|rbb|orf|srf)(?: .*)?",
    rf"sous titr(?:es|age)(?: (?:réalisés|faits|fait|créés))? (?:par|pour) {_NAME}",
    r"sous titrage (?:st' ?501|société radio canada|fr .*)",
    rf"subtítulos (?:realizados |creados |hechos )?por {_NAME}(?: \S+)?",
    rf"legend(?:as|ado) (?:por|pela) {_NAME}",
    rf"sottotitoli (?:e revisione )?(?:a cura di|creati da|creati dalla) {_NAME}",
    rf"ondertitel(?:s|ing|d) (?:ingediend |gemaakt )?door {_NAME}",
    rf"(?:undertexter|undertext|textning) (?:från|av) {_NAME}",
    rf"(?:undertekster|tekstet|teksting) a[vf] {_NAME}",
    rf"napisy (?:stworzone|wykonane|zrobione) przez {_NAME}",
    r"titulky vytvořila? \S+(?: \S+)?",
    rf"subtitrarea (?:realizată|făcută) de {_NAME}",
    rf"субтитры (?:сделал|создал|создавал|подготовил|делал|добавил|подогнал)а? {_NAME}",
    r"редактор субтитров \S+(?: \S+)?(?: корректор \S+(?: \S+)?)?",
    rf"субтитри (?:зробив|створив|підготував|створила) {_NAME}",
    r"altyazı m ?k",
    rf"υπότιτλοι (?:από )?(?:authorwave|amaraorg|{_NAME} community)",
    r"ترجمة نانسي قنقر",
    r"字幕 ?(?:by|作成者?|製作|制作|提供|由) ?.{1,20}",
    r"(?:中文|中文字幕|字幕)志[愿願]者 ?.{1,20}",
    r"(?:한글 ?)?자막 ?(?:제공|by|제작) .{1,20}",
    r"hãy subscribe cho kênh ghiền mì gõ .*",
)
_CREDIT = re.compile("|".join(f"(?:{credit})" for credit in _CREDITS))
# A full stop inside of a name (`Amara.org`) ends nothing.
_SENTENCE_END = re.compile(r"(?<=[.!?…؟۔।॥])\s+|[。！？｡\n]+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, plain; those of marks alone are left out."""
    return [said for part in _SENTENCE_END.split(text) if (said := spoken(part))]


def spoken(sentence: str) -> str:
    """A sentence as it is compared: plain, and without spaces where its script needs none."""
    said = plain(sentence)
    return said.replace(" ", "") if is_mostly_unspaced(said) else said


def is_credit(sentence: str) -> bool:
    """Whether a plain sentence says who made subtitles."""
    return _CREDIT.fullmatch(sentence) is not None


def is_closing(sentence: str) -> bool:
    """Whether a plain sentence is one that hardly anyone says but into a camera."""
    return sentence in _closings()


def is_common(sentence: str) -> bool:
    """Whether a plain sentence is one that people say, and recognisers write for noise too."""
    return sentence in _common()


@cache
def _closings() -> frozenset[str]:
    return _read(_CLOSINGS.values())


@cache
def _common() -> frozenset[str]:
    return _read([_COMMON])


def _read(listings: Iterable[str]) -> frozenset[str]:
    return frozenset(spoken(one) for listing in listings for one in listing.split("|"))
